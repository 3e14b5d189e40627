"""ONNX artifacts of layout cuda answer on a GPU what they answer on the CPU. Run with -m cuda."""

from pathlib import Path

import pytest

from runtimes import RUNTIMES

pytest.importorskip("onnxruntime")
from cuda_parity import MODELS, RECIPES, compared, make

REASON = RUNTIMES["onnxruntime"].unavailable("cuda", device="cuda")
pytestmark = [pytest.mark.cuda, pytest.mark.skipif(REASON is not None, reason=str(REASON))]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artifacts and the CPU's answers."""
    folder = tmp_path_factory.mktemp("parity")
    make(folder)
    return folder


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("model", MODELS)
def test_onnx_on_a_gpu_is_onnx_on_the_cpu_with_and_without_cuda_graphs(
    model: str, recipe: str, made: Path
) -> None:
    plain, captured = (compared(made, model, recipe, "cuda", capture) for capture in (False, True))
    print({name: value for name, value in captured.items() if name != "tokens"})
    assert plain["passed"]
    assert captured["passed"]
    assert captured["tokens"] == plain["tokens"]
