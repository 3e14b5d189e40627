"""A batch of requests gives the answers of single requests, for any lengths and images."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from answering import QUESTIONS, TWINS, at_once, of_one_image, one_by_one

from export.arrays import FloatArray
from export.checkpoint.registry import open_model
from export.torch.run import resident
from runtimes.base import Request
from runtimes.prepare.request import Pixels, preparer_of
from runtimes.proof.probes import probes
from runtimes.reference import TorchBackend
from runtimes.session.loop import GreedySession


class Counting(TorchBackend):
    """Counts the requests whose images it encodes."""

    encoded = 0

    def encode_each(self, images: Sequence[tuple[Pixels, ...]]) -> list[FloatArray]:
        self.encoded += len(images)
        return super().encode_each(images)


def opened(name: str, dtype: torch.dtype = torch.float32) -> tuple[GreedySession, Counting]:
    model = open_model(name)
    backend = Counting(model, resident(model.weights, dtype=dtype), dtype=dtype)
    return GreedySession(backend, preparer_of(model), model.vlm.stop_token_ids), backend


def requests(tokens: int = 6) -> list[Request]:
    """Three images, two questions about one of them, and a question without an image."""
    shape, text, chart = (probes(64)[n].images for n in (0, 2, 3))
    pairs = zip((*QUESTIONS, QUESTIONS[2]), (shape, text, chart, shape), strict=True)
    asked = [Request(q, images, max_tokens=tokens, arrays=True) for q, images in pairs]
    return [*asked, Request(QUESTIONS[0], max_tokens=3, arrays=True)]


@pytest.mark.parametrize("name", TWINS)
def test_common_prefix_of_prompts_is_computed_once(name: str) -> None:
    session, backend = opened(name)
    asked, lengths = of_one_image(), []
    backend.extend_all = lambda step, keep: (  # type: ignore[method-assign]
        lengths.append(len(step.ids)) or TorchBackend.extend_all(backend, step, keep)
    )
    batched = at_once(session, asked)
    assert lengths[0] > 16  # the image's tokens and those before them
    assert backend.encoded == len(lengths) == 1
    for alone, found in zip(one_by_one(session, asked), batched, strict=True):
        assert [token for token, _ in found] == [token for token, _ in alone]
        for (_, expected), (_, logits) in zip(alone, found, strict=True):
            assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("name", TWINS)
def test_batch_gives_the_tokens_and_logits_of_single_requests(name: str) -> None:
    session, backend = opened(name)
    asked = requests()
    for alone, batched in zip(one_by_one(session, asked), at_once(session, asked), strict=True):
        assert [token for token, _ in batched] == [token for token, _ in alone]
        for (_, expected), (_, logits) in zip(alone, batched, strict=True):
            assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()
    assert backend.encoded == 3


def test_batch_does_not_change_later_single_answers() -> None:
    session, _ = opened("tiny-smolvlm")
    asked = requests()
    before = one_by_one(session, asked[:1])
    at_once(session, asked)
    after = one_by_one(session, asked[:1])
    assert [t for t, _ in after[0]] == [t for t, _ in before[0]]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(before[0], after[0], strict=True))
