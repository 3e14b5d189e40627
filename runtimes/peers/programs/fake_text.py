"""A library that computes nothing, for tests of serve.py and of the sessions over it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


class Model:
    """Answers with the numbers 0, 1, 2, …"""

    def answer(self, request: dict[str, Any], step: Callable[[str, int], None]) -> None:
        """Raises ValueError for a prompt that has a 0, and ends the process at a 1."""
        if 0 in request["ids"]:
            raise ValueError("a 0\nin the prompt")
        if 1 in request["ids"]:
            raise SystemExit(3)
        print("a library's own words")  # noqa: T201 # they must not reach the replies
        step("prefill", len(request["ids"]))
        for number in range(request["tokens"]):
            step("token", number)


def open_model(folder: str, threads: int) -> Model:
    """Raises FileNotFoundError unless the folder is one."""
    next(Path(folder).iterdir())
    return Model()
