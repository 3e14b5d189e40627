"""From events to seconds: the only clock of the measurements.

Time that the consumer spends between two events does not count. NOT aware of runtimes, tasks or
memory.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from runtimes.base import Event

Clock = Callable[[], float]
T = TypeVar("T")


@dataclass(frozen=True)
class Timing:
    """Raw times of one answered request; None for a step that did not happen.

    Times are of the step alone, except `first_token_s` and `total_s`, which start at the request.
    `token_s` are the intervals between tokens, one fewer than `tokens`.
    """

    prepare_s: float | None
    image_s: float | None
    prefill_s: float | None
    first_token_s: float | None
    token_s: tuple[float, ...]
    total_s: float
    prompt_positions: int | None
    image_positions: int | None
    prefill_positions: int | None
    image_reused: bool
    prefix_reused: bool
    tokens: tuple[int, ...]
    image_tiles: int | None = None

    @property
    def decode_tokens_per_s(self) -> float | None:
        """Tokens after the first one, per second; None without a second token."""
        return len(self.token_s) / sum(self.token_s) if sum(self.token_s) else None

    @property
    def prefill_tokens_per_s(self) -> float | None:
        if not self.prefill_s or not self.prefill_positions:
            return None
        return self.prefill_positions / self.prefill_s


class Stopwatch:
    """Takes the time of each event of a stream."""

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self._clock = clock
        self._steps: list[tuple[Event, float]] = []

    def watch(self, events: Iterable[Event]) -> Iterator[Event]:
        """Yield the events; only the wait for the next one is timed."""
        start = self._clock()
        for event in events:
            self._steps.append((event, self._clock() - start))
            yield event
            start = self._clock()

    def timing(self) -> Timing:
        """Times of the events so far."""
        steps = {event.kind: (event, seconds) for event, seconds in self._steps}
        seconds = {kind: seconds for kind, (_, seconds) in steps.items()}
        events = {kind: event for kind, (event, _) in steps.items()}
        tokens = [(event.token, s) for event, s in self._steps if event.kind == "token"]
        before = sum(s for event, s in self._steps if event.kind != "token")
        return Timing(
            prepare_s=seconds.get("prepare"),
            image_s=seconds.get("image"),
            prefill_s=seconds.get("prefill"),
            first_token_s=before + tokens[0][1] if tokens else None,
            token_s=tuple(s for _, s in tokens[1:]),
            total_s=sum(s for _, s in self._steps),
            prompt_positions=_positions(events.get("prepare")),
            image_positions=_positions(events.get("image")),
            prefill_positions=_positions(events.get("prefill")),
            image_reused=_reused(events.get("image")),
            prefix_reused=_reused(events.get("prefill")),
            tokens=tuple(token for token, _ in tokens if token is not None),
            image_tiles=events["image"].tiles if "image" in events else None,
        )


def measure(events: Iterable[Event], clock: Clock = time.perf_counter) -> Timing:
    """Consume the events of one request; returns its times."""
    watch = Stopwatch(clock)
    for _ in watch.watch(events):
        pass
    return watch.timing()


def timed(function: Callable[[], T]) -> tuple[T, float]:
    """The result of a call, and its seconds."""
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def _positions(event: Event | None) -> int | None:
    return None if event is None else event.positions


def _reused(event: Event | None) -> bool:
    return event is not None and event.reused
