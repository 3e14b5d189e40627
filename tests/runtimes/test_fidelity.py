"""Divergences equal an independent computation, and vision and decoder are measured apart."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import hf_model, tiny_artifact, tiny_model
from torch.nn import functional

from bench.tasks.fidelity import compare
from export.arrays import FloatArray
from runtimes import RUNTIMES
from runtimes.base import Event, Request
from runtimes.proof.fidelity import Accumulator, FeatureAccumulator, surprise

TOKENS, VOCAB = 1200, 97


@pytest.fixture(scope="module")
def stored() -> tuple[FloatArray, FloatArray]:
    """Logits [tokens, vocab] of a reference and of a subject, some very different, some equal."""
    rng = np.random.default_rng(0)
    reference = rng.normal(0, 4, (TOKENS, VOCAB)).astype(np.float32)
    noise = rng.normal(0, 1, (TOKENS, VOCAB)) * rng.exponential(0.5, (TOKENS, 1))
    subject = reference + noise.astype(np.float32)
    subject[:10] = reference[:10]
    subject[10] += 500  # a shift changes no distribution
    reference[11, 0] = 90  # nearly certain
    return reference, subject


def test_divergences_equal_torch_on_stored_logits(
    stored: tuple[FloatArray, FloatArray],
) -> None:
    reference, subject = (torch.from_numpy(logits).double() for logits in stored)
    klds = functional.kl_div(
        functional.log_softmax(subject, -1),
        functional.log_softmax(reference, -1),
        reduction="none",
        log_target=True,
    ).sum(-1)
    accumulator = Accumulator()
    for p, q in zip(*stored, strict=True):
        accumulator.add(p, q)
    found = accumulator.result()
    assert found is not None
    assert found.n == TOKENS
    ordered = sorted(klds.tolist())

    def quantile(share: float) -> float:
        """Linear between order statistics (Hyndman and Fan's type 7)."""
        place = share * (TOKENS - 1)
        low = int(place)
        return ordered[low] + (place - low) * (ordered[low + 1] - ordered[low])

    assert found.mean_kld == pytest.approx(sum(ordered) / TOKENS, rel=1e-9)
    assert found.kld_p99 == pytest.approx(quantile(0.99), rel=1e-9)
    assert found.kld_p999 == pytest.approx(quantile(0.999), rel=1e-9)
    assert found.max_kld == pytest.approx(ordered[-1], rel=1e-9)
    top1 = (reference.argmax(-1) == subject.argmax(-1)).double().mean().item()
    assert found.top1 == pytest.approx(top1)
    assert 0.1 < found.top1 < 0.99


def test_perplexity_equals_torch(stored: tuple[FloatArray, FloatArray]) -> None:
    tokens = np.random.default_rng(1).integers(0, VOCAB, TOKENS)
    expected = functional.cross_entropy(
        torch.from_numpy(stored[1]).double(), torch.from_numpy(tokens)
    )
    found = np.mean([surprise(q, int(t)) for q, t in zip(stored[1], tokens, strict=True)])
    assert found == pytest.approx(expected.item(), rel=1e-9)


def test_cosines_equal_torch() -> None:
    rng = np.random.default_rng(0)
    pairs = [rng.normal(size=(2, 5, 16)).astype(np.float32) for _ in range(3)]
    accumulator = FeatureAccumulator()
    for a, b in pairs:
        accumulator.add(a, a + 0.1 * b)
    expected = [
        functional.cosine_similarity(torch.from_numpy(a), torch.from_numpy(a + 0.1 * b), dim=-1)
        for a, b in pairs
    ]
    found = accumulator.result()
    assert found is not None
    assert found.n == 15
    assert found.cosine == pytest.approx(torch.cat(expected).mean().item(), abs=1e-6)
    assert found.min_cosine == pytest.approx(torch.cat(expected).min().item(), abs=1e-6)


@dataclass(frozen=True)
class Halves:
    """A fake model that answers 1, 2, 0 with given errors of its vision tower and its decoder."""

    vision: float = 0.0
    decoder: float = 0.0

    def generate(self, request: Request) -> Iterator[Event]:
        own = np.full((2, 4), 1 + self.vision, np.float32)
        rows = own if request.features is None else request.features
        yield Event("image", 2, features=rows)
        for token in request.answer or (1, 2, 0):
            logits = np.zeros(8, np.float32)
            logits[token] = 3 * float(rows.mean()) + self.decoder
            yield Event("token", token=token, logits=logits)

    def close(self) -> None: ...


REQUEST = Request("?", (Image.new("RGB", (8, 8)),), arrays=True)


def test_error_is_attributed_to_vision_or_decoder() -> None:
    blind = compare("model", Halves(), Halves(vision=0.5), [REQUEST])
    assert blind.fidelity is not None
    assert blind.vision is not None
    assert blind.decoder is not None
    assert blind.vision.mean_kld == pytest.approx(blind.fidelity.mean_kld)
    assert (blind.decoder.mean_kld, blind.fidelity.mean_kld > 0) == (0, True)
    coarse = compare("model", Halves(), Halves(decoder=-1.0), [REQUEST])
    assert coarse.fidelity is not None
    assert coarse.vision is not None
    assert coarse.decoder is not None
    assert coarse.decoder.mean_kld == pytest.approx(coarse.fidelity.mean_kld)
    assert (coarse.vision.mean_kld, coarse.fidelity.mean_kld > 0) == (0, True)


def test_first_difference_is_that_of_a_free_answer() -> None:
    @dataclass(frozen=True)
    class Other(Halves):
        """Would say 5 behind the first token."""

        def generate(self, request: Request) -> Iterator[Event]:
            tokens = 0
            for event in super().generate(request):
                if event.logits is not None:
                    tokens += 1
                    if tokens == 2:
                        event.logits[5] = 30
                yield event

    found = compare("model", Halves(), Other(), [REQUEST, replace(REQUEST, question="!")])
    assert (found.first_differences, found.equal_answers) == ((1, 1), 0)


PICTURE = Image.effect_mandelbrot((50, 30), (-2, -1.5, 1, 1.5), 100).convert("RGB")
ASKED = [Request(text, (PICTURE,), max_tokens=6, arrays=True) for text in ("what is it?", "red?")]
# llama.cpp's cache has 16 bits, and its GELU is a table.
LARGEST_KLD = {"onnxruntime": 1e-8, "llama_cpp": 1e-4}


@pytest.mark.parametrize(("runtime", "target"), [("onnxruntime", "onnx"), ("llama_cpp", "gguf")])
def test_every_runtime_agrees_with_an_independent_computation(
    runtime: str, target: str, tmp_path: Path
) -> None:
    if RUNTIMES[runtime].unavailable():
        pytest.skip(RUNTIMES[runtime].unavailable())
    model = tiny_model(hf_model("grouped heads"))
    artifacts = {}
    for recipe in ("fp32", "int4"):
        (tmp_path / recipe).mkdir()
        artifacts[recipe] = tiny_artifact(model, target, recipe, tmp_path / recipe)
    reference = RUNTIMES["reference"].open_session(model, threads=1)
    found = {
        recipe: compare("m", reference, RUNTIMES[runtime].open_session(a, threads=1), ASKED)
        for recipe, a in artifacts.items()
    }
    for part in (found["fp32"].fidelity, found["fp32"].vision, found["fp32"].decoder):
        assert part is not None
        assert part.mean_kld < LARGEST_KLD[runtime]
    exact, coarse = found["fp32"].features, found["int4"].features
    assert exact is not None
    assert coarse is not None
    assert coarse.min_cosine < exact.min_cosine
    assert exact.min_cosine > 0.9999
    # The figures of int4 computed by hand: the reference's answer forced, all logits stored.
    session = RUNTIMES[runtime].open_session(artifacts["int4"], threads=1)
    klds = []
    for request in ASKED:
        free = [e for e in reference.generate(request) if e.logits is not None]
        answer = tuple(e.token for e in free if e.token is not None)
        forced = list(session.generate(replace(request, answer=answer, reuse=False)))
        p = np.stack([e.logits for e in free if e.logits is not None])
        q = np.stack([e.logits for e in forced if e.logits is not None])
        log_p = functional.log_softmax(torch.from_numpy(p).double(), -1)
        log_q = functional.log_softmax(torch.from_numpy(q).double(), -1)
        klds += (log_p.exp() * (log_p - log_q)).sum(-1).tolist()
    assert found["int4"].token_kld == pytest.approx(klds, rel=1e-3, abs=1e-6)
    assert min(klds) >= 0
    assert max(klds) > 10 * LARGEST_KLD[runtime]


def test_given_features_replace_the_images_features(tmp_path: Path) -> None:
    model = tiny_model(hf_model("grouped heads"))
    session = RUNTIMES["reference"].open_session(model, threads=1)

    def answered(request: Request) -> tuple[FloatArray, FloatArray]:
        events = list(session.generate(request))
        rows = next(e.features for e in events if e.kind == "image")
        assert rows is not None
        return rows, np.stack([e.logits for e in events if e.logits is not None])

    rows, logits = answered(ASKED[0])
    again, same = answered(replace(ASKED[0], features=rows.copy()))
    np.testing.assert_array_equal(again, rows)
    np.testing.assert_allclose(same, logits, atol=1e-5)
    _, other = answered(replace(ASKED[0], features=np.zeros_like(rows)))
    assert np.abs(other - logits).max() > 1e-3
    _, back = answered(ASKED[0])
    np.testing.assert_allclose(back, logits, atol=1e-5)
