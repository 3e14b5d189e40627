"""What measuring costs: our session under our stopwatch against a bare loop on the same file.

`python -m bench.overhead ARTIFACT…` answers the same forced tokens in turns (ours, bare, ours, …)
in one process, so that both meet the same machine. NOT aware of how a runtime works.
"""

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import cast

import numpy as np

from bench.environment import usable_cpus
from bench.measure import measure
from bench.record import Options
from bench.tasks.latency import request_of
from export.artifact import Artifact, load_artifact
from runtimes import RUNTIMES
from runtimes.base import Event, Request, Session
from runtimes.session import Backend

# our runtime -> module with `open_backend(artifact, threads)`: the same steps, nothing around them
YARDSTICKS: Mapping[str, str] = {
    "onnxruntime": "runtimes.peers.onnx_loop",
    "llama_cpp": "runtimes.peers.llama_bench",
}
EVENTS = 100_000


@dataclass(frozen=True)
class Overhead:
    """Seconds of a decode step, a request each: both lists in the order they were taken."""

    runtime: str
    ours_s: tuple[float, ...]
    bare_s: tuple[float, ...]
    timer_s: float
    """Of the stopwatch, for one step."""

    @property
    def ratio(self) -> float:
        """Ours over bare, the median of the pairs."""
        return median(ours / bare for ours, bare in zip(self.ours_s, self.bare_s, strict=True))

    @property
    def best_ratio(self) -> float:
        """Ours over bare at their fastest: what is left where other programs disturb both."""
        return min(self.ours_s) / min(self.bare_s)

    @property
    def timer_share(self) -> float:
        """Of one of our decode steps."""
        return self.timer_s / median(self.ours_s)


def timer_s(events: int = EVENTS, tries: int = 5) -> float:
    """What stamping adds to handing on one event: with the stopwatch, less without."""

    def steps() -> Iterator[Event]:
        event = Event("token", token=1)
        for _ in range(events):
            yield event

    def seconds(function: Callable[[], object]) -> float:
        start = time.perf_counter()
        function()
        return time.perf_counter() - start

    def plain() -> None:
        for _ in steps():
            pass

    stamped = min(seconds(lambda: measure(steps())) for _ in range(tries))
    return (stamped - min(seconds(plain) for _ in range(tries))) / events


def overhead(artifact: Artifact, threads: int, pairs: int, options: Options) -> Overhead:
    """Both in turns, after one request each that does not count."""
    target = artifact.manifest.target
    name = next(name for name in YARDSTICKS if RUNTIMES[name].opens(target))
    module = importlib.import_module(YARDSTICKS[name])
    session = RUNTIMES[name].open_session(artifact, threads=threads)
    backend = cast(Backend, module.open_backend(artifact, threads))
    request = request_of(artifact.manifest.vlm, options)
    turns = (lambda: _ours(session, request), lambda: _bare(backend, request))
    samples: tuple[list[float], list[float]] = ([], [])
    for pair in range(pairs + 1):
        for side in (0, 1) if pair % 2 else (1, 0):  # neither is always the one that follows
            samples[side].append(turns[side]())
    session.close()
    backend.close()
    ours, bare = (tuple(side[1:]) for side in samples)
    return Overhead(name, ours, bare, timer_s())


def _ours(session: Session, request: Request) -> float:
    steps = measure(session.generate(request)).token_s
    return sum(steps) / len(steps)


def _bare(backend: Backend, request: Request) -> float:
    assert request.ids is not None
    assert request.answer is not None
    length = len(request.ids)
    backend.extend(np.array(request.ids, np.int64), None, 0)
    steps = request.answer[:-1]
    start = time.perf_counter()
    for n, token in enumerate(steps):
        backend.extend(np.array([token], np.int64), None, length + n)
    return (time.perf_counter() - start) / len(steps)


def line(found: Overhead) -> str:
    """For people."""
    return (
        f"{found.runtime}: decode step {median(found.ours_s) * 1e3:.3f} ms, bare loop "
        f"{median(found.bare_s) * 1e3:.3f} ms, ratio {found.ratio:.4f} (median of "
        f"{len(found.ours_s)} pairs; {found.best_ratio:.4f} at their fastest); the timer takes "
        f"{found.timer_s * 1e9:.0f} ns of a step, "
        f"{found.timer_share:.4%}"
    )


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.overhead", description=__doc__)
    parser.add_argument("artifacts", nargs="+", metavar="ARTIFACT")
    parser.add_argument("--pairs", type=int, default=10, metavar="N")
    parser.add_argument("--threads", type=int, default=usable_cpus(), metavar="N")
    parser.add_argument("--decode-tokens", type=int, default=64, metavar="N")
    given = parser.parse_args()
    options = Options(prompt="text", decode_tokens=given.decode_tokens)
    for name in given.artifacts:
        found = overhead(load_artifact(Path(name)), given.threads, given.pairs, options)
        sys.stdout.write(line(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
