"""Loads an ONNX graph into ONNX Runtime, with the settings that all graphs share."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as state

from export.arrays import FloatArray
from export.errors import UserError
from export.files import short
from runtimes.devices import CPU, Device
from runtimes.graphs.memory import give_back
from runtimes.nvidia import load_libraries, memory_errors

CPU_PROVIDER, CUDA_PROVIDER = "CPUExecutionProvider", "CUDAExecutionProvider"
RUN_ERRORS = (
    RuntimeError,  # of IOBinding
    *(
        kind
        for kind in vars(state).values()
        if isinstance(kind, type(Exception)) and issubclass(kind, Exception)
    ),
)
# Products, attention and norms: in a session on a GPU, none of them may run on the CPU. Arithmetic
# on shapes may: ONNX Runtime places it there on purpose.
HEAVY = frozenset(
    {
        "FusedMatMul", "GatherBlockQuantized", "Gemm", "GroupQueryAttention", "LayerNormalization",
        "MatMul", "MatMulNBits", "MultiHeadAttention", "RotaryEmbedding",
        "SimplifiedLayerNormalization", "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization", "DynamicQuantizeMatMul", "MRotaryEmbedding",
    }
)  # fmt: skip


class OnnxGraph:
    """A graph in an ONNX Runtime session (Graph)."""

    def __init__(self, session: ort.InferenceSession, path: Path) -> None:
        """`path` names the artifact."""
        self._session, self._path = session, path
        self.inputs: Mapping[str, Sequence[Any]] = {
            value.name: value.shape for value in session.get_inputs()
        }

    def run(self, fed: Mapping[str, NDArray[Any]], output: str | None = None) -> FloatArray:
        """Computes one output from all inputs; None: the first one (Graph)."""
        with running(self._path):
            result: FloatArray = self._session.run(None if output is None else [output], fed)[0]
        return result


def open_graph(
    path: Path,
    threads: int,
    device: Device = CPU,
    *,
    capture: bool = False,
    steps: bool = False,
    kleidiai: bool = True,
) -> ort.InferenceSession:
    """Loads one ONNX file and returns the ONNX Runtime session that runs it.

    `capture`: enable CUDA graphs. `steps`: the graph runs in a loop, for milliseconds each time, so
    idle threads keep spinning. `kleidiai`: on Arm, 4-bit products may run in KleidiAI's kernels,
    which round each row of activations with one scale (docs/notes/2026-11-arm.md). Raises UserError
    if ONNX Runtime cannot run all of the graph on the given GPU, or refuses it.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if not steps:
        # Idle threads must not spin while another session needs the cores. In the decoder's session
        # they may: waking them takes 1 to 2 % of a decode step
        # (docs/notes/2026-11-harness-overhead.md).
        options.add_session_config_entry("session.force_spinning_stop", "1")
    if not kleidiai:
        options.add_session_config_entry("mlas.disable_kleidiai", "1")
    # A plan is made for each new input length and takes memory in addition to the arena.
    options.enable_mem_pattern = False
    if device.kind == "cuda":
        return _on_gpu(path, options, device, capture)
    session = opened(path, options, [CPU_PROVIDER], "the CPU")
    give_back()
    return session


@contextmanager
def running(path: Path) -> Iterator[None]:
    """Context manager: turns an error of ONNX Runtime that runs a graph into a UserError.

    A damaged graph that it loads may still be one that it cannot run. `path` names the artifact.
    """
    try:
        yield
    except RUN_ERRORS as error:
        raise UserError(
            f"{path}: onnxruntime cannot run it ({_line(error)}); export it again"
        ) from error


def inputs_of(graph: ort.InferenceSession) -> frozenset[str]:
    """Returns the names of the graph's inputs, which depend on the layout (export.onnx.layouts)."""
    return frozenset(value.name for value in graph.get_inputs())


def _on_gpu(
    path: Path, options: ort.SessionOptions, device: Device, capture: bool
) -> ort.InferenceSession:
    """Loads one ONNX file for a GPU.

    Raises UserError if ONNX Runtime cannot use the GPU, or if HEAVY operations would run on the
    CPU.
    """
    if CUDA_PROVIDER not in ort.get_available_providers():
        raise UserError("onnxruntime is built without CUDA here (make setup-cuda)")
    load_libraries()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    settings = {
        "device_id": str(device.index),
        "arena_extend_strategy": "kSameAsRequested",  # the default doubles the arena
        "use_tf32": "0",  # a graph has float32 only where it must be exact
        "enable_cuda_graph": str(int(capture)),
    }
    providers = [(CUDA_PROVIDER, settings), CPU_PROVIDER]
    session = opened(path, options, providers, f"GPU {device.index}")
    check_placement(session, path, device)
    give_back()
    return session


def opened(
    path: Path, options: ort.SessionOptions, providers: Sequence[Any], where: str
) -> ort.InferenceSession:
    """Loads one ONNX file with these settings, and returns its session.

    `where` names the device. Raises UserError if ONNX Runtime refuses the file, or if memory runs
    out.
    """
    try:
        with memory_errors("while the model was loaded"):
            # With its fallback, ONNX Runtime would print to stdout and try the same once more.
            graph = ort.InferenceSession(path, options, providers=providers, enable_fallback=0)
            values = (*graph.get_inputs(), *graph.get_outputs())
            _ = [(value.name, value.shape) for value in values]  # names that are not text fail here
            return graph
    except UserError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no narrower base class
        raise UserError(
            f"{path}: onnxruntime cannot use it on {where} ({_line(error)}); export it again"
        ) from error


def check_placement(session: ort.InferenceSession, path: Path, device: Device) -> None:
    """Raises UserError if one of the graph's HEAVY operations would run on the CPU.

    `path` names the graph in the message.
    """
    if session.get_providers()[0] != CUDA_PROVIDER:
        raise UserError(
            f"onnxruntime did not load its CUDA provider for GPU {device.index}: a library of CUDA "
            f"or cuDNN is missing or has the wrong version (make setup-cuda)"
        )
    elsewhere = {
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != CUDA_PROVIDER
        for node in part.get_nodes()
    }
    if elsewhere & HEAVY:
        raise UserError(
            f"{path.name}: onnxruntime has no kernel on a GPU for its "
            f"{', '.join(sorted(elsewhere & HEAVY))}; export with --layout cuda"
        )


def _line(error: Exception) -> str:
    """Returns the first line of an error's text; the error's type if it has none."""
    return short(next(iter(str(error).strip().splitlines()), type(error).__name__), 200)
