"""Logits and tokens equal transformers', for a table of models and a table of requests.

transformers has no Moondream: see test_moondream.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_models import hf_model, tiny_artifact, tiny_model
from transformers import PreTrainedModel
from transformers_answers import greedy_of, logits_of

from export.arrays import FloatArray
from export.model import Model
from export.onnx import memory
from runtimes import RUNTIMES
from runtimes.base import Request, Session
from runtimes.prepare.request import preparer_of

RELATIVE = 1e-4
Change = Callable[[Model], Model]


def as_it_is(model: Model) -> Model:
    return model


def whole(model: Model) -> Model:
    return replace(model, image=replace(model.image, split=False))


def within(tiles: int) -> Change:
    return lambda model: replace(model, image=model.image.within(tiles))


# A case of tiny_models, and a change of its image recipe.
MODELS: Mapping[str, tuple[str, Change]] = {
    "smolvlm": ("grouped heads", as_it_is),
    "smolvlm, one kv head": ("one kv head of three", as_it_is),
    "smolvlm, images whole": ("grouped heads", whole),
    "smolvlm, a budget of 3 tiles": ("grouped heads", within(3)),
    "smolvlm2": ("smolvlm2", as_it_is),
    "gemma3": ("five local layers to a global one", as_it_is),
    "gemma3, a narrow window": ("a window narrower than an image", as_it_is),
    "gemma3, named layers": ("named layer types", as_it_is),
    "qwen2.5-vl": ("windows of 2 x 2 squares", as_it_is),
    "internvl3": ("a class token and layer scales", as_it_is),
    "internvl3, a budget of 3 tiles": (
        "a class token, narrow rows, positions divided by 4",
        within(3),
    ),
    "qwen2.5-vl, one full layer": (
        "windows of 3 x 3 squares, one full layer, positions divided by 4",
        as_it_is,
    ),
}


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width * 7919 + height).integers(0, 256, (height, width, 3))
    return Image.fromarray(values.astype(np.uint8))


LONG = "and what else is there to be seen, " * 2
"""One token per letter: more than any attention window of the tiny models."""
REQUESTS: Mapping[str, Request] = {
    "no image": Request("what is it?"),
    "no image, a long prompt": Request(LONG * 2),
    "one image": Request("what is it?", (noise(40, 40),)),
    "one image, a long prompt": Request(LONG, (noise(40, 40),)),
    "a wide image": Request("what is it?", (noise(130, 9),)),
    "a tall image": Request("what is it?", (noise(5, 130),)),
    "a tiny image": Request("what is it?", (noise(1, 1),)),
    "a row of pixels": Request("what is it?", (noise(60, 1),)),
    "two images": Request("same?", (noise(40, 24), noise(16, 60))),
}
ANSWER = (5, 44, 300, 7, 120, 61)


@dataclass
class Opened:
    hf: PreTrainedModel
    model: Model
    sessions: Mapping[str, Session]


@pytest.fixture(scope="module", params=MODELS)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    case, change = MODELS[request.param]
    hf = hf_model(case)
    model = change(tiny_model(hf))
    folder: Path = tmp_path_factory.mktemp("artifact")
    artifact = tiny_artifact(model, "onnx", "fp32", folder)
    onnx = RUNTIMES["onnxruntime"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(memory, "PROMPT_STEP", 7)
        in_steps = onnx.open_session(artifact, threads=1)
    return Opened(
        hf,
        model,
        {
            "torch": RUNTIMES["reference"].open_session(model, threads=1),
            "onnx": onnx.open_session(artifact, threads=1),
            "onnx, prompts in steps": in_steps,
        },
    )


def answered(session: Session, request: Request) -> tuple[tuple[int, ...], FloatArray]:
    """Tokens, and the logits [tokens, vocab] that each was chosen from."""
    events = [event for event in session.generate(request) if event.token is not None]
    logits = [event.logits for event in events if event.logits is not None]
    tokens = tuple(event.token for event in events if event.token is not None)
    return tokens, np.stack(logits) if logits else np.zeros((0, 0), np.float32)


@pytest.mark.parametrize("name", REQUESTS)
def test_decoded_steps_have_the_logits_of_one_forward_pass(name: str, opened: Opened) -> None:
    request = replace(REQUESTS[name], answer=ANSWER, arrays=True)
    prepared = preparer_of(opened.model)(request)
    ids = np.array([*prepared.ids, *ANSWER], np.int64)
    wanted = logits_of(opened.hf, opened.model, ids, prepared.images)
    wanted = wanted[len(prepared.ids) - 1 : -1]  # what each token of the answer was chosen from
    for runtime, session in opened.sessions.items():
        tokens, found = answered(session, request)
        assert tokens == ANSWER
        assert np.abs(found - wanted).max() <= RELATIVE * np.abs(wanted).max(), runtime


@pytest.mark.parametrize("name", REQUESTS)
def test_greedy_tokens_equal_transformers(name: str, opened: Opened) -> None:
    request = replace(REQUESTS[name], max_tokens=16)
    prepared = preparer_of(opened.model)(request)
    wanted = greedy_of(opened.hf, opened.model, prepared.ids, prepared.images, 16)
    for runtime, session in opened.sessions.items():
        assert answered(session, request)[0] == wanted, runtime


def test_changed_recipes_change_the_number_of_tiles() -> None:
    model, image = tiny_model(hf_model("grouped heads")), (noise(130, 9), noise(40, 40))
    counts = {
        change: [len(one.values) for one in preparer_of(change(model))(Request("", image)).images]
        for change in (as_it_is, whole, within(3))
    }
    assert list(counts.values()) == [[3, 5], [1, 1], [3, 1]]
