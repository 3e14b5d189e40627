"""Answers requests with transformers.js in a page of Chromium, on WebAssembly or WebGPU.

The page does everything, the preprocessing included, and measures itself. Files of the artifact and
of npm come from a server in this process; nothing else can be reached by the page.
"""

import base64
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any, Literal

import numpy as np
from PIL import Image

from export.arrays import FloatArray
from export.artifact import Artifact, load_artifact
from export.errors import UserError
from runtimes.base import Browser, Event, Request
from runtimes.browser.chromium import SWIFTSHADER, Page, opened
from runtimes.png import png_text
from runtimes.web import pages
from runtimes.web.server import Site, serving

NUMBER = "0"
"""The artifact's name on the server."""
READY = "globalThis.pocketvlm !== undefined"


class BrowserSession:
    """A RemoteSession over a page of Chromium."""

    def __init__(
        self,
        artifact: Artifact,
        threads: int,
        device: Literal["wasm", "webgpu"],
        arguments: Sequence[str] = (),
    ) -> None:
        """Starts a server and Chromium, and loads the artifact there.

        `arguments`: of Chromium's command line. Raises UserError.
        """
        self._device, self._threads, self._stack = device, threads, ExitStack()
        files = {name: facts.bytes for name, facts in artifact.manifest.files.items()}
        served = {f"/artifacts/{NUMBER}/{name}": artifact.path / name for name in files}
        site = Site({**pages.page("session.html", "session.mjs"), **served}, policy=pages.POLICY)
        try:
            self.server = self._stack.enter_context(serving(site))
            words = (*arguments, *(SWIFTSHADER if device == "webgpu" else ()))
            self.page: Page = self._stack.enter_context(opened(self.server.address, READY, words))
            options = {"files": files, "device": device, "threads": threads}
            script = "([name, options]) => pocketvlm.open(name, options)"
            self.load_s = float(self.page.evaluate(script, [NUMBER, options]))
            self.processes = self.page.processes(gpu=device == "webgpu")
        except BaseException:
            self._stack.close()
            raise

    def surroundings(self) -> Browser:
        """Returns what the page says of the browser, and of its memory after the last answer."""
        found = self.page.evaluate("pocketvlm.surroundings()")
        return Browser(
            **found,
            device=self._device,
            threads=self._threads if found["cross_origin_isolated"] else 1,
            packages=pages.versions(),
            page_bytes=self.page.evaluate("pocketvlm.heldBytes()"),
        )

    def generate(self, request: Request) -> Iterator[Event]:
        """Answers one request (Session.generate). Raises UserError also if Chromium has ended."""
        with closing(self.steps(request)) as steps:
            for step in steps:
                yield _event(step)

    def steps(self, request: Request) -> Generator[Mapping[str, Any], None, None]:
        """Yields the same events as the page describes them, with the ids of the prompt.

        With `request.arrays` also with pixels and logits, as float32 in base64.
        """
        if request.features is not None:
            raise UserError("the runtime browser encodes images itself; leave out their features")
        if request.task:
            raise UserError(f"transformers.js has no task '{request.task}'; ask a question")
        asked = {
            "question": request.question,
            "images": [_address(image) for image in request.images],
            "ids": request.ids,
            "max_tokens": request.max_tokens,
            "answer": request.answer,
            "arrays": request.arrays,
        }
        self.page.evaluate("request => pocketvlm.ask(request)", asked)
        try:
            while (step := self.page.evaluate("pocketvlm.next()")) is not None:
                yield step
        except GeneratorExit:  # the reader has left
            self.page.evaluate("pocketvlm.stop()")
            raise

    def close(self) -> None:
        """Ends Chromium and the server."""
        self._stack.close()


def open_session(artifact: Artifact, *, threads: int, device: str = "cpu") -> BrowserSession:
    """Loads an artifact of the layout transformers.js in Chromium, on WebAssembly.

    Raises UserError if Chromium does not start, or if the artifact is not what its files say.
    """
    expect_own_tiles(artifact)
    return BrowserSession(artifact, threads, "wasm")


def expect_own_tiles(artifact: Artifact) -> None:
    """Raises UserError if the images are to be cut otherwise than the artifact's own files say."""
    if artifact.manifest.image != load_artifact(artifact.path).manifest.image:
        raise UserError(
            "--max-tiles does not reach transformers.js, which reads preprocessor_config.json; "
            "leave it out"
        )


def _event(step: Mapping[str, Any]) -> Event:
    logits = step.get("logits")
    return Event(
        kind=step["kind"],
        positions=step.get("positions", 0),
        token=step.get("token"),
        logits=None if logits is None else floats(logits),
        tiles=step.get("tiles", 0),
        seconds=step["seconds"],
    )


def floats(text: str) -> FloatArray:
    """Returns the numbers of an array as the page writes it."""
    return np.frombuffer(base64.b64decode(text), np.float32)


def _address(image: Image.Image) -> str:
    """Returns an image as a data URL, without loss."""
    return f"data:image/png;base64,{png_text(image)}"
