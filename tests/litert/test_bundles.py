"""LiteRT-LM bundles of the bundled models compute what the checkpoints do. make litert."""

import numpy as np
import pytest
from built_artifacts import Made, assert_float32_is_proven, first_logits

from export.checkpoint.registry import open_model
from runtimes import RUNTIMES
from runtimes.base import Request
from runtimes.proof.probes import probes

pytestmark = pytest.mark.litert
MODELS = ("tiny-smolvlm", "tiny-gemma3")
PROBES = probes(64)


@pytest.mark.parametrize("model", MODELS)
def test_the_proof_of_float32_passes(model: str, made: Made) -> None:
    assert_float32_is_proven(made(model, "fp32"))


def test_8_bits_hold_every_matrix_and_the_proof_passes(made: Made) -> None:
    manifest = made("tiny-gemma3", "int8").manifest
    assert manifest.proof is not None
    assert manifest.proof.passed, manifest.proof.failures
    assert manifest.quantization.fallbacks == ()
    assert manifest.quantization.bits_per_weight < 8.5
    assert manifest.total_bytes < 0.4 * made("tiny-gemma3", "fp32").manifest.total_bytes


@pytest.mark.parametrize("model", MODELS)
def test_a_prompt_whose_start_is_cached_gives_the_same_logits(model: str, made: Made) -> None:
    session = RUNTIMES["litert"].open_session(made(model, "fp32"), threads=1)
    request = Request("what color is it?", PROBES[0].images, max_tokens=1, arrays=True)
    first, again = first_logits(session, request), first_logits(session, request)
    assert np.abs(first - again).max() <= 1e-4 * np.abs(first).max()


@pytest.mark.parametrize("images", [3, 18])
def test_prompts_of_several_prefills_give_the_references_logits(images: int, made: Made) -> None:
    """18 images fill the cache but for the last prefill, whose positions are computed singly."""
    model = open_model("tiny-gemma3")
    words = "what color is the shape? " * (30 if images == 3 else 6)
    request = Request(words, PROBES[0].images * images, max_tokens=1, arrays=True)
    found, wanted = (
        first_logits(RUNTIMES[name].open_session(subject, threads=1), request)
        for name, subject in (("litert", made("tiny-gemma3", "fp32")), ("reference", model))
    )
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()
