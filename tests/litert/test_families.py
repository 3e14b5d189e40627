"""Small random models of what no bundled model has: text alone, InternVL's tiles. make litert."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_models import hf_model, tiny_artifact, tiny_model

from export.checkpoint.registry import open_model
from export.errors import UserError
from export.exporter import export_model
from runtimes import RUNTIMES
from runtimes.base import Request, Session

pytestmark = pytest.mark.litert
IMAGE = Image.effect_mandelbrot((50, 30), (-2, -1.5, 1, 1.5), 100)
CASES = {"a class token and layer scales": (IMAGE,), "text alone, a window of 5": ()}


def answered(session: Session, request: Request) -> tuple[list[int], list[np.ndarray]]:
    events = [event for event in session.generate(request) if event.token is not None]
    return [e.token for e in events], [e.logits.copy() for e in events]


@pytest.mark.parametrize("case", CASES)
def test_answers_and_logits_are_the_references(case: str, tmp_path: Path) -> None:
    model = tiny_model(hf_model(case))
    request = Request("what is it?", CASES[case], max_tokens=8, arrays=True)
    artifact = tiny_artifact(model, "litert", "fp32", tmp_path)
    session = RUNTIMES["litert"].open_session(artifact, threads=1)
    reference = RUNTIMES["reference"].open_session(model, threads=1)
    (found, logits), (wanted, expected) = (answered(s, request) for s in (session, reference))
    assert found == wanted
    for one, other in zip(logits, expected, strict=True):
        assert np.abs(one - other).max() <= 1e-4 * np.abs(other).max()


@pytest.mark.parametrize("model", ["tiny-qwen2.5-vl", "tiny-moondream"])
def test_models_that_the_runner_has_no_inputs_for_are_refused(model: str, tmp_path: Path) -> None:
    opened, out = open_model(model), tmp_path / "out"
    family = opened.vlm.family
    with pytest.raises(UserError, match=f"the target has no inputs for models of {family}; "):
        export_model(opened, target="litert", recipe="fp32", out=out)
    assert not out.exists()
