"""A batch of requests in llama.cpp gives the answers of single requests and leaves no state."""

from pathlib import Path

import numpy as np
import pytest
from answering import QUESTIONS, TWINS, at_once, of_one_image, one_by_one
from tiny_models import tiny_artifact

from export.artifact import Artifact
from export.checkpoint.registry import open_model
from export.errors import UserError
from runtimes.base import Request
from runtimes.llama_cpp.session import LlamaBackend
from runtimes.prepare.request import preparer_of
from runtimes.proof.probes import probes
from runtimes.session.loop import GreedySession

pytest.importorskip("llama_cpp")

# Relative to the largest logit: a batch computes sums in another order, and the cache rounds the
# results to 16 bits.
CLOSE = 1e-2


@pytest.fixture(params=TWINS)
def artifact(request: pytest.FixtureRequest, tmp_path: Path) -> Artifact:
    model = open_model(request.param)
    # 16 bits, and the tower whose features do not depend on the batch.
    made = tiny_artifact(model, "gguf", "fp16", tmp_path, "onnx-vision")
    (tmp_path / "tokenizer.json").write_bytes(model.files["tokenizer.json"])
    return made


def opened(artifact: Artifact, context: int = 512) -> GreedySession:
    backend = LlamaBackend(artifact, 1, context)
    stop = artifact.manifest.vlm.stop_token_ids
    return GreedySession(backend, preparer_of(artifact), stop)


def of_several() -> list[Request]:
    """Two images, two questions about one of them, and a question without an image."""
    shape, chart = (probes(64)[n].images for n in (0, 3))
    pairs = zip(QUESTIONS, (shape, chart, shape), strict=True)
    asked = [Request(q, images, max_tokens=5, arrays=True) for q, images in pairs]
    return [*asked, Request(QUESTIONS[0], max_tokens=3, arrays=True)]


@pytest.mark.parametrize("asked", [of_one_image(), of_several()], ids=["one image", "several"])
def test_batch_gives_answers_of_single_requests(artifact: Artifact, asked: list[Request]) -> None:
    session = opened(artifact)
    before = one_by_one(session, asked)
    for alone, batched in zip(before, at_once(session, asked), strict=True):
        assert [token for token, _ in batched] == [token for token, _ in alone]
        for (_, expected), (_, logits) in zip(alone, batched, strict=True):
            assert np.abs(logits - expected).max() < CLOSE * np.abs(expected).max()
    after = one_by_one(session, asked)
    for first, again in zip(before, after, strict=True):
        assert [token for token, _ in again] == [token for token, _ in first]
        assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(first, again, strict=True))
    session.close()


def test_batch_that_does_not_fit_the_cache_is_refused(tmp_path: Path) -> None:
    model = open_model("tiny-smolvlm")
    made = tiny_artifact(model, "gguf", "int4", tmp_path, "onnx-vision")
    (tmp_path / "tokenizer.json").write_bytes(model.files["tokenizer.json"])
    session = opened(made, context=64)
    few, many = of_one_image()[:1], of_several() * 4
    expected = one_by_one(session, few)
    with pytest.raises(UserError, match=r"no room for 16 answers at once in a context of \d+"):
        at_once(session, many)
    found = one_by_one(session, few)
    assert [[t for t, _ in one] for one in found] == [[t for t, _ in one] for one in expected]
    session.close()
