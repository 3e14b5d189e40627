"""ExecuTorch programs of the bundled models compute what the checkpoints do. -m executorch."""

from collections.abc import Callable

import numpy as np
import pytest
from answering import TWINS

from export.artifact import Artifact, load_artifact
from export.proof import Features, Fidelity, GreedyCheck
from export.summary import delegation_lines
from runtimes import RUNTIMES
from runtimes.base import Request
from runtimes.proof.probes import probes

pytestmark = pytest.mark.executorch
Made = Callable[[str, str], Artifact]
PROBES = probes(64)
NETWORKS = {"vision_encoder", "token_embedding", "text_decoder"}
REGIONS = {f"{n}_{kind}" for n in ("coordinate", "size") for kind in ("embedding", "bins")}
MORE = {"tiny-moondream": {"projection", *REGIONS}}


@pytest.mark.parametrize("model", TWINS)
def test_the_proof_of_float32_passes(model: str, made: Made) -> None:
    proof = made(model, "fp32").manifest.proof
    assert proof is not None
    assert proof.passed, proof.failures
    checks = proof.checks
    assert isinstance(checks.features, Features)
    assert isinstance(checks.logits, Fidelity)
    assert isinstance(checks.greedy, GreedyCheck)
    assert checks.logits.mean_kld < 1e-9


@pytest.mark.parametrize("model", TWINS)
def test_the_manifest_says_what_runs_in_xnnpack(model: str, made: Made) -> None:
    artifact = load_artifact(made(model, "fp32").path)
    details = artifact.manifest.details.executorch
    assert details is not None
    assert set(details.methods) == NETWORKS | MORE.get(model, set())
    for name, found in details.methods.items():
        assert found.operators == found.delegated_operators + sum(found.outside.values()), name
        assert 0 <= found.delegated_weight_bytes <= found.weight_bytes, name
    decoder = details.methods["text_decoder"]
    assert decoder.delegated_weight_bytes > 0.9 * decoder.weight_bytes
    assert len(list(delegation_lines(details.methods))) >= len(details.methods)


@pytest.mark.parametrize("model", TWINS)
def test_a_prompt_whose_start_is_cached_gives_the_same_logits(model: str, made: Made) -> None:
    session = RUNTIMES["executorch"].open_session(made(model, "fp32"), threads=1)
    request = Request("what color is it?", PROBES[0].images, max_tokens=1, arrays=True)
    first, again = (
        next(e.logits for e in session.generate(request) if e.logits is not None).copy()
        for _ in range(2)
    )
    assert np.abs(first - again).max() <= 1e-4 * np.abs(first).max()
