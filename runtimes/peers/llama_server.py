"""Baseline: the program `llama-server`, asked over HTTP. It takes text and images."""

import json
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from export.artifact import Artifact
from export.errors import UserError
from export.files import short
from export.prompts import Prompt, PromptRecipe
from runtimes.base import Browser, Event, Request
from runtimes.peers.llama_programs import CONTEXT, decoder_file, program, tokens, tower_file
from runtimes.peers.program import last, length_of, variables
from runtimes.png import png_text

MARK = "<__media__>"
POLL_S = 0.005
OPEN_S = 600.0
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def open_session(artifact: Artifact, *, threads: int, device: str = "cpu") -> "ServerSession":
    """Starts llama-server on a GGUF artifact and returns a session; CPU only."""
    return ServerSession(artifact, threads)


class ServerSession:
    """A RemoteSession over llama-server; `load_s` is from its start until it says that it is ready.

    Its tokens are its own choices, and their times are the mean that it reports.
    """

    def __init__(self, artifact: Artifact, threads: int) -> None:
        self._prompt, self._log = artifact.manifest.prompt, tempfile.TemporaryFile()  # noqa: SIM115
        self._address = f"http://127.0.0.1:{(port := _free_port())}"
        words = [str(program("llama-server")), "-m", str(decoder_file(artifact))]
        tower = tower_file(artifact)
        words += ["--mmproj", str(tower)] if tower else []
        words += ["-t", str(threads), "-c", str(CONTEXT), "-np", "1", "--no-warmup"]
        words += ["--host", "127.0.0.1", "--port", str(port), "--cache-ram", "0"]
        own = {**variables(), "LLAMA_MEDIA_MARKER": MARK}
        start = time.perf_counter()
        self._process = subprocess.Popen(words, stdout=self._log, stderr=self._log, env=own)
        try:
            self._wait()
        except BaseException:
            self.close()
            raise
        self.load_s: float | None = time.perf_counter() - start
        self.processes: tuple[int, ...] = (self._process.pid,)

    def generate(self, request: Request) -> Iterator[Event]:
        """Answers one request (Session.generate): token ids, or a question about images.

        Of a prescribed answer only the length counts. The step `prefill` contains the images.
        """
        length = length_of(request)
        asked = {
            "prompt": _prompt(request, self._prompt),
            "n_predict": length,
            **{"temperature": 0, "ignore_eos": True, "cache_prompt": False, "return_tokens": True},
        }
        found = self._ask("/completion", json.dumps(asked).encode())
        times = found["timings"]
        positions = int(times["prompt_n"])
        yield Event("prepare", positions, seconds=0.0)
        yield Event("prefill", positions, seconds=times["prompt_ms"] / 1e3)
        step_s = times["predicted_ms"] / 1e3 / max(1, length - 1)
        for token, seconds in zip(found["tokens"], tokens(length, 0.0, step_s), strict=False):
            yield Event("token", token=token, seconds=seconds)

    def surroundings(self) -> Browser | None:
        """Returns None: it runs in no browser."""
        return None

    def close(self) -> None:
        """Ends the server."""
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _wait(self) -> None:
        """Waits until the server has loaded the model. Raises UserError if it ends before."""
        deadline = time.monotonic() + OPEN_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise UserError(f"llama-server cannot open it ({self._said()}); export it again")
            try:
                DIRECT.open(f"{self._address}/health", timeout=OPEN_S).close()
                return
            except OSError:  # not listening yet, or an answer that it is still loading
                time.sleep(POLL_S)
        raise UserError(f"llama-server was not ready after {OPEN_S:g} s ({self._said()})")

    def _ask(self, path: str, data: bytes) -> dict[str, Any]:
        asked = urllib.request.Request(
            self._address + path, data, {"Content-Type": "application/json"}
        )
        try:
            with DIRECT.open(asked) as reply:
                found: dict[str, Any] = json.load(reply)
                return found
        except urllib.error.HTTPError as error:
            said = short(error.read().decode(errors="replace"), 200)
            raise UserError(f"llama-server refused the request ({said})") from None
        except OSError:
            raise UserError(f"llama-server ended during a request ({self._said()})") from None

    def _said(self) -> str:
        self._log.seek(0)
        return short(last(self._log.read().decode(errors="replace").splitlines()), 200)


def _prompt(request: Request, recipe: PromptRecipe) -> Any:
    """Returns the prompt as the server takes it. Raises UserError for a task or features."""
    if request.task or request.arrays or request.features is not None:
        raise UserError("llama_server answers questions and returns only text")
    if request.ids is not None:
        return list(request.ids)
    if not isinstance(recipe, Prompt):
        raise UserError("llama_server builds prompts of text; this model's consist of token ids")
    text = recipe.text(MARK * len(request.images), request.question)
    return {"prompt_string": text, "multimodal_data": [png_text(image) for image in request.images]}


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
