"""A fake runtime for tests: its session follows the script in its artifact's file fake.json."""

import importlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.artifact import Artifact
from export.errors import UserError
from export.files import read_json
from runtimes.base import Event, Request

SCRIPT = "fake.json"
LOGITS = 9 * np.eye(16, dtype=np.float32)  # row n: the logits that choose token n


@dataclass(frozen=True)
class FakeSession:
    """A session without a model that answers as its `script` says; tokens default to 1, 2, 0.

    `script` is the content of fake.json, with these keys, all optional (EVENT: an Event.kind, or
    "load" for the time of loading):

        answers   {question: tokens}
        places    {question: regions}, for requests with a task
        refuses   [question]: questions that raise UserError
        EVENT     what happens before an event of this kind: {bytes: memory to allocate, delay_s,
                  says: text for stdout, refuse: message of a UserError, ggml_assert: message of
                  llama.cpp's abort, signal: number to send to the process}
    """

    script: Mapping[str, Any]

    def generate(self, request: Request) -> Iterator[Event]:
        tokens = self.script.get("answers", {}).get(request.question, (1, 2, 0))
        if request.question in self.script.get("refuses", ()):
            raise UserError("refused")
        yield self.step(Event("prepare", len(request.ids or range(12))))
        if request.images:
            yield self.step(Event("image", 4 * len(request.images), tiles=len(request.images)))
        yield self.step(Event("prefill", len(request.ids or range(12))))
        if request.task:
            regions = self.script.get("places", {}).get(request.question, ())
            yield from (Event("place", region=tuple(region)) for region in regions)
            return
        for n, token in enumerate(request.answer or tokens[: request.max_tokens]):
            yield self.step(Event("token", token=token, logits=LOGITS[tokens[n % len(tokens)]]))

    def generate_each(self, requests: Sequence[Request]) -> Iterator[tuple[int, Event]]:
        for number, request in enumerate(requests):
            yield from ((number, event) for event in self.generate(request))

    def step(self, event: Event, name: str = "") -> Event:
        script = self.script.get(name or event.kind, {})
        _ = np.ones(script.get("bytes", 0), np.uint8)
        os.write(1, script.get("says", "").encode())
        time.sleep(script.get("delay_s", 0.0))
        if "refuse" in script:
            raise UserError(script["refuse"])
        if "ggml_assert" in script:  # as llama.cpp aborts on an inconsistent file
            library = importlib.import_module("llama_cpp.llama_cpp")._lib
            library.ggml_abort(b"fake.cpp", 1, script["ggml_assert"].encode())
        os.kill(os.getpid(), script.get("signal", 0))  # 6: abort; 9: out of memory
        return event

    def close(self) -> None: ...


def open_session(artifact: Artifact, *, threads: int, device: str = "cpu") -> FakeSession:
    session = FakeSession(read_json(artifact.path, SCRIPT))
    session.step(Event("prepare"), "load")
    return session
