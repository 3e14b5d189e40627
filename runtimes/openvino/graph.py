"""Loads ONNX graphs into OpenVINO, with the settings that all graphs share."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset15 as ops
from openvino.frontend import FrontEndManager

from export.arrays import FloatArray
from export.artifact import Artifact
from export.errors import UserError
from export.files import short
from runtimes.graphs.memory import give_back
from runtimes.openvino.operators import extensions

FLOAT, BFLOAT16 = "f32", "bf16"
NAMES = {FLOAT: "float32", BFLOAT16: "bfloat16"}
SETTINGS = {
    # The caller chooses the CPUs; a thread that is bound to one waits for whatever else runs there.
    "ENABLE_CPU_PINNING": False,
}
FRAME = ("Exception from ", "Check '", "FrontEnd API failed", "Summary:", "While validating ")
"""How lines of OpenVINO's errors begin that say where in its code, not what is wrong."""


class OpenvinoGraph:
    """A graph that OpenVINO has compiled (Graph)."""

    def __init__(self, model: openvino.CompiledModel, path: Path) -> None:
        """`path` names the artifact."""
        self._request, self._path = model.create_infer_request(), path
        self.inputs = inputs_of(model)

    def run(self, fed: Mapping[str, NDArray[Any]], output: str | None = None) -> FloatArray:
        """Computes one output from all inputs; None: the first one (Graph)."""
        with running(self._path):
            found = self._request.infer(dict(fed), share_inputs=True)
            result: FloatArray = found[0 if output is None else output]
        return result


class Loader:
    """Loads graphs of an artifact for a number of threads."""

    def __init__(self, artifact: Artifact, threads: int) -> None:
        self._path, self._threads = artifact.path, threads
        self._core = openvino.Core()
        exact = artifact.manifest.recipe_used.base in ("fp32", "fp16")
        able = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision = BFLOAT16 if able and not exact else FLOAT
        """The type of the activations. A recipe that rounds weights is as exact in bfloat16."""
        # By its name: the core would try all formats that OpenVINO reads.
        self._reader = FrontEndManager().load_by_framework("onnx")
        for extension in extensions():
            self._reader.add_extension(extension)

    def compiled(self, path: Path) -> openvino.CompiledModel:
        """Returns a compiled ONNX file. Raises UserError if OpenVINO refuses it."""
        try:
            model = self._reader.convert(self._reader.load(path))
            if not model.outputs:
                raise ValueError("it has no outputs")
            compiled = self._compiled(model)
        except Exception as error:  # OpenVINO's exceptions have no narrower base class
            raise UserError(
                f"{path}: openvino cannot use it ({_line(error)}); export it again, or choose "
                f"--runtime onnxruntime"
            ) from error
        give_back()
        return compiled

    def has_matrix_units(self) -> bool:
        """Whether products run on matrix units of the CPU (AMX), in the artifact's precision."""
        x = ops.parameter([64, 64], np.float32)
        product = ops.matmul(x, ops.constant(np.ones((64, 64), np.float32)), False, False)
        nodes = self._compiled(openvino.Model([product], [x])).get_runtime_model().get_ops()
        return any("_amx_" in node.get_rt_info()["primitiveType"].astype(str) for node in nodes)

    def _compiled(self, model: openvino.Model) -> openvino.CompiledModel:
        chosen = {
            "INFERENCE_NUM_THREADS": self._threads,
            "INFERENCE_PRECISION_HINT": self.precision,
        }
        return self._core.compile_model(model, "CPU", {**SETTINGS, **chosen})

    def graph(self, path: Path) -> OpenvinoGraph:
        """Returns the graph of an ONNX file. Raises UserError if OpenVINO refuses it."""
        return OpenvinoGraph(self.compiled(path), self._path)


@contextmanager
def running(path: Path) -> Iterator[None]:
    """Context manager: turns an error of OpenVINO that runs a graph into a UserError.

    `path` names the artifact.
    """
    try:
        yield
    except (RuntimeError, ValueError, LookupError) as error:
        raise UserError(
            f"{path}: openvino cannot run it ({_line(error)}); export it again"
        ) from error


def inputs_of(model: openvino.CompiledModel) -> Mapping[str, Sequence[Any]]:
    """Returns the shape of each input, by name; an axis of any length is None."""
    return {value.get_any_name(): _shape(value.get_partial_shape()) for value in model.inputs}


def _shape(shape: openvino.PartialShape) -> tuple[int | None, ...]:
    return tuple(None if axis.is_dynamic else axis.get_length() for axis in shape)


def _line(error: Exception) -> str:
    """Returns the line of OpenVINO's error that says what is wrong: the last that is no frame."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(FRAME)] or lines
    return short(telling[-1] if telling else type(error).__name__, 200)
