"""Checks, without a GPU, that a session for a GPU is refused if the CPU would do its work."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_models import tiny_artifact

from export.artifact import Artifact
from export.checkpoint.registry import open_model
from export.errors import UserError
from runtimes.devices import Device
from runtimes.onnxruntime.backend import OnnxBackend
from runtimes.onnxruntime.graph import CPU_PROVIDER, CUDA_PROVIDER, check_placement, open_graph

GPU = Device("cuda", 1)
FILE = Path("decoder.onnx")


class Session:
    """A fake of ONNX Runtime's session that reports which provider runs which ops."""

    def __init__(self, **ops: Sequence[str]) -> None:
        self._ops = ops

    def get_providers(self) -> list[str]:
        return list(self._ops)

    def get_provider_graph_assignment_info(self) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(
                ep_name=name, get_nodes=lambda ops=ops: [SimpleNamespace(op_type=op) for op in ops]
            )
            for name, ops in self._ops.items()
        ]


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_artifact(
        open_model("tiny-smolvlm"), "onnx", "int4", tmp_path_factory.mktemp("native")
    )


def test_missing_cuda_provider_is_refused() -> None:
    session = Session(**{CPU_PROVIDER: ["MatMul"]})
    with pytest.raises(UserError, match="did not load its CUDA provider for GPU 1"):
        check_placement(session, FILE, GPU)  # type: ignore[arg-type]


def test_product_on_the_cpu_is_refused_by_name() -> None:
    session = Session(**{CUDA_PROVIDER: ["Add"], CPU_PROVIDER: ["MatMulNBits", "Shape"]})
    with pytest.raises(UserError, match=r"no kernel on a GPU for its MatMulNBits;"):
        check_placement(session, FILE, GPU)  # type: ignore[arg-type]


def test_arithmetic_on_shapes_may_run_on_the_cpu() -> None:
    session = Session(**{CUDA_PROVIDER: ["MatMulNBits"], CPU_PROVIDER: ["Shape", "Gather"]})
    check_placement(session, FILE, GPU)  # type: ignore[arg-type]


def test_build_without_cuda_refuses_a_gpu(native: Artifact) -> None:
    path = native.path / native.manifest.components["decoder"][0]
    with pytest.raises(UserError, match=r"built without CUDA here|cannot use decoder"):
        open_graph(path, 1, Device("cuda", 99))


def test_cpu_layout_on_a_gpu_is_refused_with_the_right_layout(native: Artifact) -> None:
    with pytest.raises(UserError, match=r"has layout native, .* export with --layout cuda"):
        OnnxBackend(native, 1, 64, device=GPU)
