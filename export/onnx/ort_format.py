"""Converts ONNX graphs to ONNX Runtime's own format (.ort), for builds of it that read no ONNX.

The conversion optimizes and folds nothing, so no operator and no weight depends on the machine.
"""

import importlib
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from export.errors import UserError

SUFFIX = ".ort"


def expect_onnxruntime() -> None:
    """Raises UserError if ONNX Runtime, which writes the files, is not installed."""
    if find_spec("onnxruntime") is None:
        raise UserError(
            "--layout ort: onnxruntime is not installed, and it writes these files; "
            "pip install 'pocket-vlm[onnxruntime]', or export with --layout native"
        )


def convert(graph: Path, data: Iterable[str]) -> str:
    """Replaces an ONNX graph and its files of `data`, which lie beside it, by one .ort file.

    Returns the new file's name. The same graph gives the same bytes everywhere. Takes one and a
    half times its size in memory. Raises UserError if it cannot be written.
    """
    made = graph.with_suffix(SUFFIX)
    save(graph, made)
    for path in (graph, *(graph.with_name(name) for name in data)):
        path.unlink()
    importlib.import_module("export.onnx.ort_order").reorder(made)  # imports flatbuffers
    return made.name


def save(graph: Path, made: Path) -> None:
    """Writes an ONNX graph as the .ort file `made`, in the order that ONNX Runtime happens to take.

    Raises UserError if it cannot be written.
    """
    ort = importlib.import_module("onnxruntime")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(made)
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.log_severity_level = 3
    try:
        ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except ort.capi.onnxruntime_pybind11_state.Fail as error:  # it does not say why
        raise UserError(
            f"{made.name}: onnxruntime cannot write it ({str(error).splitlines()[0]}); free disk "
            f"space for twice its size, or export with --layout native"
        ) from error
