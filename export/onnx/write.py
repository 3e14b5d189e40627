"""Writes a model as ONNX graphs with external data, or as .ort files, as a layout says.

`sizes` builds the same graphs, but with data files that only count bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import onnx
import onnx_ir as ir

from export.checkpoint.synthetic import Synthetic
from export.manifest import Details, OnnxDetails, signed_name
from export.model import Model
from export.modeling.vlm import Vlm
from export.onnx import client_files as clients
from export.onnx.data import DataFile, Locations, new_data_file
from export.onnx.graph import DECODER_GRAPHS, GRAPHS, WIDE, graphs_beside_decoder, graphs_of
from export.onnx.layouts import LAYOUTS, Layout, layout_of
from export.onnx.ledger import Ledger
from export.onnx.ort_format import SUFFIX, convert, expect_onnxruntime
from export.onnx.ort_plan import (
    OPERATORS,
    Operator,
    estimated_bytes,
    expect_fitting,
    operator_list,
    operators_of,
)
from export.onnx.parameters import Parameters
from export.onnx.signed import signed
from export.quantize.recipe import Recipe
from export.quantize.rounding import Rounding
from export.target import Written

__all__ = ["client_files", "graphs_beside_decoder", "sizes", "sizes_of", "write", "write_graphs"]

NATIVE = LAYOUTS["native"]


def write(model: Model, recipe: Recipe, folder: Path, layout: str) -> Written:
    """Writes `model` into `folder` as ONNX graphs, tensor by tensor (Target.write).

    `layout`: a key of LAYOUTS. Returns the names of the files and how the weights were quantized.
    Raises UserError if the layout's client cannot run the model.
    """
    chosen = layout_of(model.vlm, layout)
    if chosen.ort:
        expect_onnxruntime()
        expect_fitting(sizes(model, recipe, layout))
    written = write_graphs(model, recipe, folder, graphs_of(model.vlm), chosen)
    return replace(written, details=replace(written.details, limits=clients.limits(model, layout)))


def write_graphs(
    model: Model,
    recipe: Recipe,
    folder: Path,
    components: Sequence[str],
    layout: Layout = NATIVE,
) -> Written:
    """Writes some of the model's graphs, with their data files or as .ort files, into `folder`.

    `components` are keys of export.onnx.graph.GRAPHS. Returns the names of the files and how the
    weights were quantized.
    """
    ledger, written = Ledger(), {}
    domains: dict[str, int] = {}
    operators: set[Operator] = set()
    known: Locations = {}
    for component in components:
        stem = layout.stem(GRAPHS[component].__name__, recipe)
        path = folder / f"{stem}.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        known = {} if layout.own_weights else known
        with new_data_file(_data_path(path), layout.chunk_bytes, known) as data:
            rounding = Rounding(model.hessians)
            half = _half(layout, component)
            parameters = Parameters(model.weights, recipe, data, ledger, rounding, half, layout.ort)
            graph = GRAPHS[component](model.vlm, parameters, layout)
        proto = ir.to_proto(graph)
        path.write_bytes(proto.SerializeToString())
        domains |= graph.opset_imports
        operators |= operators_of(graph)
        names = [convert(path, data.sizes)] if layout.ort else [path.name, *data.sizes]
        if other := _signed(proto, layout):
            names.append(signed_name(path.name))
            path.with_name(names[-1]).write_bytes(other.SerializeToString())
        written[component] = tuple(f"{layout.folder}{name}" for name in names)
    if layout.ort:
        (folder / OPERATORS).write_bytes(operator_list(operators))
    opsets = {domain or "ai.onnx": version for domain, version in domains.items()}
    return Written(written, ledger.result(), Details(onnx=OnnxDetails(opsets)))


def sizes(model: Model, recipe: Recipe, layout: str) -> Mapping[str, int]:
    """Returns the bytes of each file that `write` would write, by path (Target.sizes)."""
    return sizes_of(model, recipe, graphs_of(model.vlm), layout_of(model.vlm, layout))


def sizes_of(
    model: Model, recipe: Recipe, components: Sequence[str], layout: Layout = NATIVE
) -> Mapping[str, int]:
    """Returns the bytes of each file that `write_graphs` would write, by path.

    They are exact but for .ort files (export.onnx.target.SIZE_ERROR).
    """
    groups = graphs_beside_decoder(model.vlm), DECODER_GRAPHS  # they share no tensor
    found: dict[str, int] = {}
    operators: set[Operator] = set()
    for group in groups:
        named = tuple(component for component in components if component in group)
        plan = _planned(model.vlm, recipe, named, layout)
        found |= plan.sizes
        operators |= plan.operators
    if layout.ort:
        found[OPERATORS] = len(operator_list(operators))
    return found


@dataclass(frozen=True)
class _Plan:
    """What is known of some graphs before they are written: the bytes of files, and operators."""

    sizes: Mapping[str, int]
    operators: frozenset[Operator]


@lru_cache(maxsize=256)  # other models and targets need the same graphs
def _planned(vlm: Vlm, recipe: Recipe, components: tuple[str, ...], layout: Layout) -> _Plan:
    found: dict[str, int] = {}
    operators: set[Operator] = set()
    known: Locations = {}
    for component in components:
        stem = layout.stem(GRAPHS[component].__name__, recipe)
        known = {} if layout.own_weights else known
        path = _data_path(Path(f"{stem}.onnx"))
        data = DataFile(path, chunk_bytes=layout.chunk_bytes, known=known)
        half, folded = _half(layout, component), layout.ort
        parameters = Parameters(Synthetic(vlm), recipe, data, Ledger(), half=half, folded=folded)
        graph = GRAPHS[component](vlm, parameters, layout)
        operators |= operators_of(graph)
        if layout.ort:
            found[f"{stem}{SUFFIX}"] = estimated_bytes(graph)
            continue
        proto = ir.to_proto(graph)
        found[f"{stem}.onnx"] = proto.ByteSize()
        if other := _signed(proto, layout):
            found[signed_name(f"{stem}.onnx")] = other.ByteSize()
        found |= {f"{layout.folder}{name}": nbytes for name, nbytes in data.sizes.items()}
    return _Plan(found, frozenset(operators))


def client_files(model: Model, recipe: Recipe, layout: str) -> Mapping[str, bytes]:
    """Returns the files that the layout's client reads besides the graphs: path -> content.

    For PocketVLM itself they are the checkpoint's, unchanged (Target.client_files).
    """
    if layout_of(model.vlm, layout).client == NATIVE.client:
        return model.files
    return clients.client_files(model, layout, sizes(model, recipe, layout))


def _signed(graph: onnx.ModelProto, layout: Layout) -> onnx.ModelProto | None:
    """Returns the graph for CPUs on which products of signed weights are exact, if it differs.

    Only PocketVLM's own runtime chooses between the two.
    """
    return signed(graph) if layout == NATIVE else None


def _data_path(graph: Path) -> Path:
    return graph.with_name(f"{graph.name}_data")


def _half(layout: Layout, component: str) -> bool:
    """Whether the graph of a component (a key of GRAPHS) computes in half precision."""
    return layout.device and component not in WIDE
