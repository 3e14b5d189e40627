"""Times the events that a session yields while it answers a request.

Only the wait for each event counts, not what the consumer does between two events; an event
that was measured elsewhere has its own seconds. NOT aware of runtimes, tasks or memory.
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
    """Times in seconds of one answered request, and its numbers of tokens.

    `prepare_s`, `image_s` and `prefill_s` are the times of these steps alone; None: the step did
    not happen. `first_token_s` and `total_s` start at the request. `token_s` are the intervals
    between the answer's `tokens` (ids), so one fewer. Positions are tokens: of the whole prompt, of
    the image in it, and those that prefill computed because no cached prefix had them.
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
        """Decoded tokens per second, the first one not counted; None without a second token."""
        return len(self.token_s) / sum(self.token_s) if sum(self.token_s) else None

    @property
    def prefill_tokens_per_s(self) -> float | None:
        if not self.prefill_s or not self.prefill_positions:
            return None
        return self.prefill_positions / self.prefill_s


class Stopwatch:
    """Times the events of one request: `watch` passes them on, `timing` returns the times."""

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self._clock = clock
        self._steps: list[tuple[Event, float]] = []

    def watch(self, events: Iterable[Event]) -> Iterator[Event]:
        """Yield the same events, and record how long each one took.

        That is what the event says, if it was measured elsewhere, or else the wait for it.
        """
        start = self._clock()
        for event in events:
            waited = self._clock() - start
            self._steps.append((event, waited if event.seconds is None else event.seconds))
            yield event
            start = self._clock()

    def timing(self) -> Timing:
        """Return the times of the events that `watch` has yielded so far."""
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
    """Consume all events of one request and return its times. `clock` returns seconds."""
    watch = Stopwatch(clock)
    for _ in watch.watch(events):
        pass
    return watch.timing()


def timed(function: Callable[[], T]) -> tuple[T, float]:
    """Call the function; return its result and the seconds that the call took."""
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def _positions(event: Event | None) -> int | None:
    return None if event is None else event.positions


def _reused(event: Event | None) -> bool:
    return event is not None and event.reused
