"""What measuring costs: our session under our stopwatch against a bare loop on the same file.

`python -m bench.overhead ARTIFACT…` answers the same request in turns (ours, bare, bare, ours, …)
in one process, so that both meet the same machine. NOT aware of how a runtime works.
"""

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np

from bench.machine.environment import usable_cpus
from bench.measure import measure
from bench.record import Options
from bench.stats import Estimate, grouped_median
from bench.tasks.latency import request_of
from export.artifact import Artifact, load_artifact
from export.errors import UserError
from runtimes import RUNTIMES
from runtimes.base import Event, Logits, Request, Session
from runtimes.session import Backend


@dataclass(frozen=True)
class Yardstick:
    """The same steps with nothing around them: a module with `open_backend(artifact, threads)`."""

    module: str
    chooses: bool
    """Whether it has logits to choose each token from; llama-bench has none, so both are forced."""


# by our runtime
YARDSTICKS: Mapping[str, Yardstick] = {
    "onnxruntime": Yardstick("runtimes.peers.onnx_loop", chooses=True),
    "llama_cpp": Yardstick("runtimes.peers.llama_bench", chooses=False),
}
EVENTS = 100_000


@dataclass(frozen=True)
class Pairs:
    """Seconds of a decode step, a request each in the order they were taken, of one opening."""

    ours_s: tuple[float, ...]
    bare_s: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        return [ours / bare for ours, bare in zip(self.ours_s, self.bare_s, strict=True)]


@dataclass(frozen=True)
class Overhead:
    """Pairs of some openings. Where a session's memory happens to lie moves its steps by more than
    what is asked for here, so both are opened anew several times."""

    runtime: str
    openings: tuple[Pairs, ...]
    timer_s: float
    """Of the stopwatch, for one step."""

    @property
    def step_s(self) -> float:
        """Our decode step."""
        return median(s for pairs in self.openings for s in pairs.ours_s)

    @property
    def bare_s(self) -> float:
        """The bare loop's."""
        return median(s for pairs in self.openings for s in pairs.bare_s)

    @property
    def ratio(self) -> Estimate:
        """Ours over bare, the median of the pairs."""
        found = grouped_median([pairs.ratios for pairs in self.openings])
        assert found is not None
        return found

    @property
    def timer_share(self) -> float:
        """Of one of our decode steps."""
        return self.timer_s / self.step_s


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


def overhead(
    artifact: Artifact, threads: int, pairs: int, openings: int, options: Options
) -> Overhead:
    """At least so many pairs, an equal number in each opening. Raises UserError."""
    name = next(name for name in YARDSTICKS if RUNTIMES[name].opens(artifact.manifest.target))
    each = -(-pairs // openings)
    found = (_opening(artifact, name, threads, each, options, n) for n in range(openings))
    return Overhead(name, tuple(found), timer_s())


def _opening(
    artifact: Artifact, name: str, threads: int, pairs: int, options: Options, number: int
) -> Pairs:
    """Both in turns, after one request each that does not count."""
    vlm, yardstick = artifact.manifest.vlm, YARDSTICKS[name]
    module = importlib.import_module(yardstick.module)
    opens = (
        lambda: RUNTIMES[name].open_session(artifact, threads=threads),
        lambda: cast(Backend, module.open_backend(artifact, threads)),
    )
    opened: dict[int, Any] = {side: opens[side]() for side in _order(number)}
    session, backend = opened[0], opened[1]
    request = request_of(vlm, options)
    if yardstick.chooses:
        request = replace(request, answer=None, max_tokens=options.decode_tokens)
    turns = (lambda: _ours(session, request), lambda: _bare(backend, request, vlm.stop_token_ids))
    samples: tuple[list[float], list[float]] = ([], [])
    answers: set[tuple[int, ...]] = set()
    for pair in range(pairs + 1):
        for side in _order(pair):
            step_s, answer = turns[side]()
            samples[side].append(step_s)
            answers.add(answer)
    session.close()
    backend.close()
    if len(answers) > 1:
        raise UserError(f"{artifact.path}: the bare loop chose other tokens, so it is no yardstick")
    ours, bare = (tuple(side[1:]) for side in samples)
    return Pairs(ours, bare)


def _order(turn: int) -> tuple[int, int]:
    """Neither side is always the one that follows."""
    return (0, 1) if turn % 2 else (1, 0)


def _ours(session: Session, request: Request) -> tuple[float, tuple[int, ...]]:
    """Seconds of a step, and the answer."""
    timing = measure(session.generate(request))
    if not timing.token_s:
        raise UserError("the model ends its answer at once; take one with random weights")
    return sum(timing.token_s) / len(timing.token_s), timing.tokens


def _bare(
    backend: Backend, request: Request, stop: tuple[int, ...]
) -> tuple[float, tuple[int, ...]]:
    """As _ours, from exact prompt ids."""
    ids, forced = np.array(request.ids, np.int64), request.answer
    limit = request.max_tokens if forced is None else len(forced)
    token = _token(backend.extend(ids, None, 0), forced, 0)
    answer = [token]
    start = time.perf_counter()
    while len(answer) < limit and (forced or token not in stop):
        logits = backend.extend(np.array([token], np.int64), None, len(ids) + len(answer) - 1)
        token = _token(logits, forced, len(answer))
        answer.append(token)
    return (time.perf_counter() - start) / max(1, len(answer) - 1), tuple(answer)


def _token(logits: Logits, forced: tuple[int, ...] | None, place: int) -> int:
    return int(logits.argmax()) if forced is None else forced[place]


def line(found: Overhead) -> str:
    """For people."""
    ratio = found.ratio
    return (
        f"{found.runtime}: decode step {found.step_s * 1e3:.3f} ms, bare loop "
        f"{found.bare_s * 1e3:.3f} ms, ratio {ratio.value:.4f} [{ratio.low:.4f}, "
        f"{ratio.high:.4f}] (median of {ratio.n} pairs in {len(found.openings)} openings); the "
        f"timer takes {found.timer_s * 1e9:.0f} ns of a step, {found.timer_share:.4%}"
    )


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.overhead", description=__doc__)
    parser.add_argument("artifacts", nargs="+", metavar="ARTIFACT")
    parser.add_argument("--pairs", type=int, default=25, metavar="N")
    parser.add_argument("--openings", type=int, default=5, metavar="N")
    parser.add_argument("--threads", type=int, default=usable_cpus(), metavar="N")
    parser.add_argument("--decode-tokens", type=int, default=64, metavar="N")
    given = parser.parse_args()
    options = Options(prompt="text", prefill_tokens=64, decode_tokens=given.decode_tokens)
    for name in given.artifacts:
        artifact = load_artifact(Path(name))
        found = overhead(artifact, given.threads, given.pairs, given.openings, options)
        sys.stdout.write(line(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
