"""Writes a model as ONNX: a few graphs, each with one data file beside it.

`sizes` emits the same graphs over data files that only count: the bytes without the writing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from export.model import Model
from export.onnx.data import DataFile, new_data_file
from export.onnx.graph import GRAPHS, OPSETS, graphs_beside_decoder, graphs_of
from export.onnx.parameters import Ledger, Parameters
from export.quantize.recipe import Recipe
from export.targets import Written

__all__ = ["files_of", "graphs_beside_decoder", "sizes", "sizes_of", "write", "write_graphs"]


def write(model: Model, recipe: Recipe, folder: Path, layout: str) -> Written:
    """Write `model` into `folder`, tensor by tensor (the target's entry in export/targets.py)."""
    written = write_graphs(model, recipe, folder, graphs_of(model.vlm))
    return replace(written, details={"layout": layout, **written.details})


def write_graphs(model: Model, recipe: Recipe, folder: Path, components: Sequence[str]) -> Written:
    """Write some of the model's graphs (export.onnx.graph.graphs_of)."""
    ledger, files = Ledger(), {}
    for component in components:
        graph_file, data_file = files_of(component)
        with new_data_file(folder / data_file) as data:
            graph = _graph(model, recipe, component, data, ledger)
        (folder / graph_file).write_bytes(graph)
        files[component] = (graph_file, data_file)
    domains = {domain or "ai.onnx": version for domain, version in OPSETS.items()}
    return Written(files, ledger.result(), {"opsets": domains})


def sizes(model: Model, recipe: Recipe, layout: str) -> Mapping[str, int]:
    """Bytes of each file that `write` would make; reads no weight."""
    return sizes_of(model, recipe, graphs_of(model.vlm))


def sizes_of(model: Model, recipe: Recipe, components: Sequence[str]) -> Mapping[str, int]:
    """Bytes of each file that `write_graphs` would make; reads no weight."""
    found: dict[str, int] = {}
    for component in components:
        graph_file, data_file = files_of(component)
        data = DataFile(Path(data_file))
        found[graph_file] = len(_graph(model, recipe, component, data, Ledger()))
        found[data_file] = data.nbytes
    return found


def files_of(component: str) -> tuple[str, str]:
    """Names of a component's graph and data file."""
    stem = GRAPHS[component].__name__
    return f"{stem}.onnx", f"{stem}.onnx_data"


def _graph(model: Model, recipe: Recipe, component: str, data: DataFile, ledger: Ledger) -> bytes:
    """The graph's file; its weights go to `data` as they are met."""
    graph = GRAPHS[component](model.vlm, Parameters(model.weights, recipe, data, ledger))
    content: bytes = ir.to_proto(graph).SerializeToString()
    return content
