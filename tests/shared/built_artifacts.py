"""What the tests of targets with an extra of their own share: artifacts made once, and checks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from tiny_models import hf_model, tiny_artifact, tiny_model

from export.arrays import FloatArray
from export.artifact import Artifact
from export.exporter import export_model
from export.proof import Features, Fidelity, GreedyCheck
from runtimes import RUNTIMES
from runtimes.base import Request, Session

Made = Callable[[str, str], Artifact]
"""Returns the artifact of a bundled model and a recipe, with its proof."""
PICTURE = Image.effect_mandelbrot((50, 30), (-2, -1.5, 1, 1.5), 100)
# Of what no bundled model has.
CASES = {"a class token and layer scales": (PICTURE,), "text alone, a window of 5": ()}


def made_once(target: str, folder: Path) -> Made:
    """Returns what exports a bundled model when it is first asked for, and then keeps it."""
    known: dict[tuple[str, str], Artifact] = {}

    def of(model: str, recipe: str) -> Artifact:
        if (model, recipe) not in known:
            out = folder / f"{model}-{recipe}"
            known[model, recipe] = export_model(model, target=target, recipe=recipe, out=out)
        return known[model, recipe]

    return of


def assert_float32_is_proven(artifact: Artifact) -> None:
    proof = artifact.manifest.proof
    assert proof is not None
    assert proof.passed, proof.failures
    checks = proof.checks
    assert isinstance(checks.features, Features)
    assert isinstance(checks.logits, Fidelity)
    assert isinstance(checks.greedy, GreedyCheck)
    assert checks.logits.mean_kld < 1e-9


def assert_answers_as_the_reference(
    case: str, target: str, folder: Path, runtime: str | None = None
) -> None:
    """Compares tokens and logits of a small random model.

    `runtime`: the runtime's name (default: that of the target).
    """
    model = tiny_model(hf_model(case))
    request = Request("what is it?", CASES[case], max_tokens=8, arrays=True)
    artifact = tiny_artifact(model, target, "fp32", folder)
    session = RUNTIMES[runtime or target].open_session(artifact, threads=1)
    reference = RUNTIMES["reference"].open_session(model, threads=1)
    (found, logits), (wanted, expected) = (_answered(s, request) for s in (session, reference))
    assert found == wanted
    for one, other in zip(logits, expected, strict=True):
        assert np.abs(one - other).max() <= 1e-4 * np.abs(other).max()


def first_logits(session: Session, request: Request) -> FloatArray:
    return next(e.logits for e in session.generate(request) if e.logits is not None).copy()


def _answered(session: Session, request: Request) -> tuple[list[int], list[FloatArray]]:
    events = [event for event in session.generate(request) if event.token is not None]
    return [e.token for e in events], [e.logits.copy() for e in events]
