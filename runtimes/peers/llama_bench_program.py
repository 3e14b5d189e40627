"""Baseline: the program `llama-bench` itself. Text only; it reports neither loading nor memory."""

import json
from collections.abc import Iterator

from export.artifact import Artifact
from runtimes.base import Browser, Event, Request
from runtimes.peers.llama_programs import decoder_file, output, program, tokens
from runtimes.peers.program import text_only


def open_session(artifact: Artifact, *, threads: int, device: str = "cpu") -> "BenchSession":
    """Returns a session that runs llama-bench on a GGUF artifact's decoder; CPU only."""
    return BenchSession(artifact, threads)


class BenchSession:
    """A RemoteSession that runs llama-bench for each answer: a prompt, then steps after a prompt.

    Its tokens are random, and their times are the mean that it prints.
    """

    load_s: float | None = None
    processes: tuple[int, ...] = ()

    def __init__(self, artifact: Artifact, threads: int) -> None:
        settings = ["-t", str(threads), "-r", "1", "-o", "json"]
        self._words = [str(program("llama-bench")), "-m", str(decoder_file(artifact)), *settings]

    def generate(self, request: Request) -> Iterator[Event]:
        """Times a prompt and an answer of the request's lengths (Session.generate)."""
        ids, length = text_only(request, "llama_bench_program")
        yield Event("prepare", len(ids), seconds=0.0)
        prompt_s = self._seconds("-p", str(len(ids)), "-n", "0")
        yield Event("prefill", len(ids), seconds=prompt_s)
        steps = length - 1
        step_s = 0.0
        if steps > 0:
            step_s = self._seconds("-p", "0", "-n", str(steps), "-d", str(len(ids))) / steps
        for seconds in tokens(length, 0.0, step_s):
            yield Event("token", token=0, seconds=seconds)

    def surroundings(self) -> Browser | None:
        """Returns None: it runs in no browser."""
        return None

    def close(self) -> None:
        """Does nothing: no process is left between answers."""

    def _seconds(self, *test: str) -> float:
        found = json.loads(output([*self._words, *test])[0])
        return float(found[0]["avg_ns"]) / 1e9
