"""A page in Chromium opens transformers.js artifacts and answers as the checkpoint does.

It does so for all families that transformers.js has, on WebAssembly with one thread and two, and on
WebGPU, which SwiftShader computes where there is no GPU.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from clients.conftest import Export, greedy
from clients.test_transformers_js import EDGES, TWO_IMAGES, requests
from export.checkpoint.registry import open_model
from runtimes.base import Request
from runtimes.prepare.request import preparer_of

pytestmark = pytest.mark.browser

RECIPES = ("fp32", "int8", "int4")
THREADS = (1, 2)
# Optimizing ONNX Runtime takes Chromium longer than these tests.
QUICKLY = ("--js-flags=--liftoff-only",)
WASM = [(name, recipe, threads) for name in EDGES for recipe in RECIPES for threads in THREADS]
# float32 and integers, each once in the smallest model: a GPU that is a CPU is slow.
WEBGPU = [("tiny-smolvlm", "fp32"), ("tiny-smolvlm", "int4")]


@dataclass(frozen=True)
class Said:
    """What the page said to the requests of a model, and where it ran."""

    steps: Mapping[str, list[Mapping[str, Any]]]
    browser: Any
    paths: list[str]
    statuses: set[int]


Reference = Callable[[str, str], list[int | None]]
Visit = Callable[[str, str, str, int, Mapping[str, Request]], Said]


@pytest.fixture(scope="module")
def visit(exported: Export) -> Visit:
    """Asks a page about a model, by recipe, device and threads; each combination once."""
    from runtimes.browser.session import BrowserSession

    made: dict[tuple[str, str, str, int], Said] = {}

    def ask(
        name: str, recipe: str, device: Any, threads: int, asked: Mapping[str, Request]
    ) -> Said:
        key = (name, recipe, device, threads)
        if key not in made:
            artifact = exported(open_model(name), recipe, "transformers.js")
            session = BrowserSession(artifact, threads, device, QUICKLY)
            try:
                steps = {
                    called: list(session.steps(replace(request, arrays=True)))
                    for called, request in asked.items()
                }
                log = session.server.log
                seen = [seen.path for seen in log], {seen.status for seen in log}
                made[key] = Said(steps, session.surroundings(), *seen)
            finally:
                session.close()
        return made[key]

    return ask


def tokens(steps: list[Mapping[str, Any]]) -> list[int]:
    return [step["token"] for step in steps if step["kind"] == "token"]


CASES = [(*case, asked) for case in WASM for asked in requests(case[0])]


@pytest.fixture(scope="module")
def reference() -> Callable[[str, str], list[int | None]]:
    """The tokens of the checkpoint's own answer, by model and name of the request."""
    return cache(lambda name, asked: greedy("reference", open_model(name), requests(name)[asked]))


@pytest.mark.parametrize(("name", "recipe", "threads", "asked"), CASES)
def test_a_page_prepares_what_the_model_wants_and_answers_as_the_reference_does(
    name: str, recipe: str, threads: int, asked: str, visit: Visit, reference: Reference
) -> None:
    from runtimes.browser.session import floats

    said, request = visit(name, recipe, "wasm", threads, requests(name)), requests(name)[asked]
    steps = said.steps[asked]
    wanted = preparer_of(open_model(name))(request)
    assert steps[0]["ids"] == wanted.ids.tolist()
    pixels = np.concatenate([image.values.ravel() for image in wanted.images])
    assert np.abs(floats(steps[0]["pixels"]) - pixels).max() < 1e-5
    # Not int4 with two pictures, as in Node: test_transformers_js says why.
    if asked != "two pictures" or (name in TWO_IMAGES and recipe != "int4"):
        assert tokens(steps) == reference(name, asked)
    assert (said.browser.threads, said.browser.cross_origin_isolated) == (threads, True)


@pytest.mark.parametrize(("name", "recipe"), WEBGPU)
def test_a_page_answers_as_the_reference_does_on_webgpu(
    name: str, recipe: str, visit: Visit, reference: Reference
) -> None:
    one = {"a picture": requests(name)["a picture"]}
    said = visit(name, recipe, "webgpu", 1, one)
    assert said.browser.adapter is not None
    assert tokens(said.steps["a picture"]) == reference(name, "a picture")


def test_every_step_has_its_own_seconds(visit: Visit) -> None:
    said = visit("tiny-smolvlm", "int4", "wasm", 1, requests("tiny-smolvlm"))
    for steps in said.steps.values():
        kinds = [step["kind"] for step in steps]
        assert kinds[:4] == ["prepare", "image", "prefill", "token"]
        assert set(kinds[4:]) <= {"token"}
        assert all(step["seconds"] >= 0 for step in steps)


def test_a_page_loads_nothing_but_what_the_server_offers(visit: Visit) -> None:
    said = visit("tiny-smolvlm", "int4", "wasm", 1, requests("tiny-smolvlm"))
    assert said.statuses <= {200, 303}
    assert {path.split("/")[1] for path in said.paths} <= {
        *("", "session.mjs", "vlm.mjs", "npm", "artifacts")
    }
