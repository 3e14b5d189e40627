"""A session over a program of another project, in a process and an environment of its own."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from export.errors import UserError
from export.files import short
from runtimes.base import Browser, Event, Request

SERVE = Path(__file__).with_name("programs") / "serve.py"
OURS = ("PYTHONPATH", "PYTHONHOME")
"""Variables that would put our packages before those of the environment."""


class ProgramSession:
    """A RemoteSession over programs/serve.py: text alone, and the answer's tokens are its own."""

    def __init__(self, python: Path, module: str, folder: Path, threads: int) -> None:
        """Starts the process and waits until it has opened the folder.

        `module` is a file of the folder `programs`. Raises UserError if it cannot be opened.
        """
        self._module, self._log = module, tempfile.TemporaryFile()  # noqa: SIM115
        words = [str(python), str(SERVE), module, str(folder), str(threads)]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=variables()
        )
        try:
            self.load_s: float | None = float(self._reply()["load_s"])
        except UserError as error:
            self.close()
            raise UserError(f"{folder}: {error}; build it again with bench peers") from None
        self.processes: tuple[int, ...] = (self._process.pid,)

    def generate(self, request: Request) -> Iterator[Event]:
        """Answers one request (Session.generate): a prompt of token ids, without images.

        Of a prescribed answer only the length counts. Events come when the answer is complete.
        """
        ids, length = text_only(request, self._module)
        yield Event("prepare", len(ids), seconds=0.0)
        assert self._process.stdin is not None
        line = json.dumps({"ids": ids, "tokens": length})
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        for step in self._reply()["steps"]:
            yield _event(step)

    def surroundings(self) -> Browser | None:
        """Returns None: it runs in no browser."""
        return None

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        reply: dict[str, Any] = json.loads(line) if line else {"error": self._last_words()}
        if "error" in reply:
            raise UserError(f"{self._module}: {short(str(reply['error']), 300)}")
        return reply

    def _last_words(self) -> str:
        code = self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()
        return f"its process ended with exit code {code} ({last(lines)})"


def text_only(request: Request, name: str) -> tuple[list[int], int]:
    """Returns the ids of a request's prompt, and the length of its answer.

    Raises UserError for a request with images, a question or a task.
    """
    if request.ids is None or request.images or request.task or request.arrays:
        raise UserError(f"{name} takes a prompt of token ids alone; ask for --prompt text")
    return list(request.ids), length_of(request)


def length_of(request: Request) -> int:
    """Returns the number of tokens in the answer to a request."""
    return request.max_tokens if request.answer is None else len(request.answer)


def variables() -> dict[str, str]:
    """Returns the environment variables for a program of another project.

    With CI=true, OpenVINO does not report to its maker (findings/openvino-import-reports.sh).
    """
    own = {name: value for name, value in os.environ.items() if name not in OURS}
    return own | {"CI": "true"}


def _event(step: dict[str, Any]) -> Event:
    if step["kind"] == "prefill":
        return Event("prefill", step["value"], seconds=step["seconds"])
    return Event("token", token=step["value"], seconds=step["seconds"])


def opened(name: str, module: str, folder: Path, threads: int) -> ProgramSession:
    """Opens a folder in the environment `name`, see ProgramSession."""
    from runtimes.peers.environments import python

    return ProgramSession(python(name), module, folder, threads)


def last(lines: Sequence[str]) -> str:
    """Returns the last line that is not empty; "no output" without one."""
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")
