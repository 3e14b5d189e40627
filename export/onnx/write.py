"""Writes a model as ONNX: three graphs, each with one data file beside it."""

from pathlib import Path

import onnx_ir as ir

from export.model import Model
from export.onnx.data import DataFile
from export.onnx.graph import GRAPHS, OPSETS
from export.onnx.parameters import Ledger, Parameters
from export.quantize.recipe import Recipe
from export.targets import Written


def write(model: Model, recipe: Recipe, folder: Path, layout: str) -> Written:
    """Write `model` into `folder`, tensor by tensor (the target's entry in export/targets.py)."""
    ledger, components = Ledger(), {}
    for component, emit in GRAPHS.items():
        stem = emit.__name__
        with DataFile(folder / f"{stem}.onnx_data") as data:
            graph = emit(model.vlm, Parameters(model.weights, recipe, data, ledger))
        (folder / f"{stem}.onnx").write_bytes(ir.to_proto(graph).SerializeToString())
        components[component] = (f"{stem}.onnx", f"{stem}.onnx_data")
    domains = {domain or "ai.onnx": version for domain, version in OPSETS.items()}
    return Written(components, ledger.result(), {"layout": layout, "opsets": domains})
