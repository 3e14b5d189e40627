"""`bench overhead`: measures the time that PocketVLM's session adds to the inference library.

Our session with its stopwatch is compared with a bare loop over the same library and files. Both
answer the same request, a prompt and then decode steps, alternately in one process (ours, bare,
bare, ours, …), so that both meet the same state of the machine.
"""

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np

from bench.analysis.stats import Estimate, grouped_median
from bench.machine.threads import chosen_threads
from bench.measure import measure, timed
from bench.options import LatencyOptions
from bench.reporting import fmt
from bench.tasks.latency import request_of
from export.artifact import Artifact, load_artifact, verify_digests
from export.errors import UserError
from runtimes import RUNTIMES
from runtimes.base import Event, Logits, Request, Session
from runtimes.session.backend import Backend, Extend
from runtimes.session.positions import text_positions


@dataclass(frozen=True)
class Yardstick:
    """The bare loop that one of our runtimes is compared with.

    `module` is the name of a module with a function `open_backend(artifact, threads)`.
    """

    module: str
    chooses: bool
    """Whether it chooses tokens from logits. llama-bench has none, so both sides decode a given
    answer."""


# our runtime -> its yardstick
YARDSTICKS: Mapping[str, Yardstick] = {
    "onnxruntime": Yardstick("runtimes.peers.onnx_loop", chooses=True),
    "llama_cpp": Yardstick("runtimes.peers.llama_bench", chooses=False),
}
EVENTS = 100_000


Groups = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Turns:
    """Seconds that our session and the bare loop took for the same work, such as a decode step.

    Each has an inner tuple for each time the artifact was loaded (an opening), with one figure for
    each request. Where a session's memory lies changes its steps by several per cent, so openings,
    not requests within one, are the independent samples.
    """

    ours_s: Groups
    bare_s: Groups

    @property
    def ratio(self) -> Estimate:
        """Our time divided by the bare loop's: the median over all pairs of requests."""
        found = grouped_median(
            [
                [ours / bare for ours, bare in zip(*opening, strict=True)]
                for opening in zip(self.ours_s, self.bare_s, strict=True)
            ]
        )
        assert found is not None
        return found

    @property
    def medians_s(self) -> tuple[float, float]:
        """Median seconds over all requests, of our session and of the bare loop."""
        ours_s, bare_s = (median(chain.from_iterable(side)) for side in (self.ours_s, self.bare_s))
        return ours_s, bare_s


@dataclass(frozen=True)
class Overhead:
    """The times of our session and of the bare loop on one artifact, measured by `overhead`.

    `prefill` is the time of a whole prompt, `step` that of one decode step.
    """

    runtime: str
    prefill: Turns
    step: Turns
    timer_s: float
    """Seconds that the stopwatch takes for one event."""

    @property
    def timer_share(self) -> float:
        """The stopwatch's time as a share of our median decode step."""
        return self.timer_s / self.step.medians_s[0]


@dataclass(frozen=True)
class Answered:
    """Measurement of one answered request.

    Seconds of its prompt, mean seconds of its decode steps, and the ids of the answer's tokens.
    """

    prefill_s: float
    step_s: float
    tokens: tuple[int, ...]


Sides = tuple[list[Answered], list[Answered]]
"""Measurements of our session and of the bare loop, for one loading of the artifact."""


def timer_s(events: int = EVENTS, tries: int = 5) -> float:
    """Measure the seconds that the stopwatch adds to each event, with a loop of `events` events.

    The best of `tries` loops with the stopwatch, minus the best of as many without it.
    """

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
    artifact: Artifact, threads: int, pairs: int, openings: int, options: LatencyOptions
) -> Overhead:
    """Compare our session with the bare loop on one artifact.

    Loads the artifact `openings` times on both sides, and measures at least `pairs` pairs of
    requests, equally many after each loading. Raises UserError if the two answer differently, or if
    a file changed since the export.
    """
    verify_digests(artifact)  # the bare loop, which may be loaded first, does not
    name = next(name for name in YARDSTICKS if RUNTIMES[name].opens(artifact.manifest.target))
    each = -(-pairs // openings)
    sides = [_opening(artifact, name, threads, each, options, n) for n in range(openings)]
    prefill, step = (
        _turns(sides, seconds) for seconds in (lambda a: a.prefill_s, lambda a: a.step_s)
    )
    return Overhead(name, prefill, step, timer_s())


def _turns(openings: Sequence[Sides], seconds: Callable[[Answered], float]) -> Turns:
    ours, bare = (
        tuple(tuple(seconds(answered) for answered in opening[side]) for opening in openings)
        for side in (0, 1)
    )
    return Turns(ours, bare)


def _opening(
    artifact: Artifact, name: str, threads: int, pairs: int, options: LatencyOptions, number: int
) -> Sides:
    """Load the artifact on both sides, and measure `pairs` requests on each after one warm-up.

    The side that goes first alternates. Raises UserError if the two sides choose other tokens.
    """
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
    answered: Sides = ([], [])
    for pair in range(pairs + 1):
        for side in _order(pair):
            answered[side].append(turns[side]())
    session.close()
    backend.close()
    if len({found.tokens for side in answered for found in side}) > 1:
        raise UserError(
            f"{artifact.path}: the bare loop chose other tokens, so the two cannot be compared"
        )
    return answered[0][1:], answered[1][1:]


def _order(turn: int) -> tuple[int, int]:
    """The order of the sides in turn number `turn`: 0 is our session, 1 the bare loop."""
    return (0, 1) if turn % 2 else (1, 0)


def _ours(session: Session, request: Request) -> Answered:
    timing = measure(session.generate(request))
    if not timing.token_s:
        raise UserError("the model ends its answer at the first token; use one with random weights")
    assert timing.prefill_s is not None
    step_s = sum(timing.token_s) / len(timing.token_s)
    return Answered(timing.prefill_s, step_s, timing.tokens)


def _bare(backend: Backend, request: Request, stop: tuple[int, ...]) -> Answered:
    """Answer the request in a loop that calls only the backend, until a token of `stop`."""
    ids, forced = np.array(request.ids, np.int64), request.answer
    limit = request.max_tokens if forced is None else len(forced)
    prompt, positions = Extend.sequential(ids), text_positions(len(ids), limit)
    logits, prefill_s = timed(lambda: backend.extend(prompt))
    token = _token(logits, forced, 0)
    answer = [token]
    start = time.perf_counter()
    while len(answer) < limit and (forced or token not in stop):
        n = len(answer) - 1
        step = Extend(np.array([token], np.int64), None, len(ids) + n, positions[:, n : n + 1])
        logits = backend.extend(step)
        token = _token(logits, forced, len(answer))
        answer.append(token)
    step_s = (time.perf_counter() - start) / max(1, len(answer) - 1)
    return Answered(prefill_s, step_s, tuple(answer))


def _token(logits: Logits, forced: tuple[int, ...] | None, index: int) -> int:
    return int(logits.argmax()) if forced is None else forced[index]


def line(cost: Overhead) -> str:
    """Describe a comparison in one line of text, with times and ratios of prompt and step."""
    step = cost.step
    return (
        f"{cost.runtime}: {_compared('prompt', cost.prefill)}; {_compared('decode step', step)} "
        f"(medians of {fmt.count(step.ratio.n, 'pair')} in "
        f"{fmt.count(len(step.ours_s), 'opening')}); the timer takes "
        f"{cost.timer_s * 1e9:.0f} ns of a step, {cost.timer_share:.4%}"
    )


def _compared(what: str, turns: Turns) -> str:
    ours_s, bare_s = turns.medians_s
    return (
        f"{what} {ours_s * 1e3:.3f} ms, bare loop {bare_s * 1e3:.3f} ms, "
        f"ratio {fmt.interval(turns.ratio, digits=5)}"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure each artifact and print a line about it; returns 0."""
    options = LatencyOptions(
        prompt="text",
        prefill_tokens=arguments.prefill_tokens,
        decode_tokens=arguments.decode_tokens,
    )
    threads = chosen_threads(arguments.threads)
    for name in arguments.artifacts:
        artifact = load_artifact(Path(name))
        cost = overhead(artifact, threads, arguments.pairs, arguments.openings, options)
        sys.stdout.write(line(cost) + "\n")
    return 0
