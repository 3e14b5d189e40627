"""A peer's process: opens a model in another project's library, and answers requests with times.

`python serve.py MODULE FOLDER THREADS`, where MODULE is a file beside this one with a function
`open_model(folder, threads)`. What that returns has `answer(request, step)`, which calls `step` as
soon as something exists. Requests and replies are lines of JSON. NOT aware of PocketVLM: it runs
where that is not installed.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol


class Opened(Protocol):
    """A model that a peer's library has opened."""

    def answer(self, request: dict[str, Any], step: Callable[[str, int], None]) -> None:
        """Answers {"ids": the prompt, "tokens": length of the answer}.

        Calls step("prefill", positions), then step("token", id) for each token.
        """


def main(module: str, folder: str, threads: str) -> None:
    """Answers the requests of stdin until it ends. An error of the library is a reply, too."""
    # Libraries print to file descriptor 1, so it becomes stderr's.
    replies = open(os.dup(1), "w", encoding="utf-8")  # noqa: SIM115
    os.dup2(2, 1)

    def reply(message: dict[str, Any]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    opener = importlib.import_module(module)  # before the clock starts
    start = time.perf_counter()
    try:
        model = opener.open_model(folder, int(threads))
        reply({"load_s": time.perf_counter() - start})
        for line in sys.stdin:
            reply({"steps": _answered(model, json.loads(line))})
    except Exception as error:  # whatever a library raises is told, not lost with the process
        reply({"error": " ".join(f"{type(error).__name__}: {error}".split())})


def _answered(model: Opened, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the steps of one answer, each with the seconds since the one before."""
    steps: list[dict[str, Any]] = []
    last = time.perf_counter()

    def step(kind: str, value: int) -> None:
        nonlocal last
        now = time.perf_counter()
        steps.append({"kind": kind, "value": value, "seconds": now - last})
        last = time.perf_counter()

    model.answer(request, step)
    return steps


if __name__ == "__main__":
    main(*sys.argv[1:])
