"""Events become seconds by one clock; the reader's own time does not count."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from bench.measure import Stopwatch, measure
from runtimes.base import Event


class Clock:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def events(clock: Clock) -> Iterator[Event]:
    steps = [
        (1, Event("prepare", positions=10)),
        (20, Event("image", positions=4, reused=True)),
        (300, Event("prefill", positions=10)),
        (4000, Event("token", token=7)),
        (50000, Event("token", token=8)),
        (600000, Event("token", token=0)),
    ]
    for seconds, event in steps:
        clock.now += seconds
        yield event


def test_steps_are_timed_alone_and_totals_from_the_request() -> None:
    timing = measure(events(clock := Clock()), clock)
    assert (timing.prepare_s, timing.image_s, timing.prefill_s) == (1, 20, 300)
    assert timing.first_token_s == 4321
    assert timing.token_s == (50000, 600000)
    assert timing.total_s == 654321
    assert timing.tokens == (7, 8, 0)
    assert (timing.prompt_positions, timing.image_positions, timing.image_reused) == (10, 4, True)
    assert timing.decode_tokens_per_s == pytest.approx(2 / 650000)


def test_an_event_that_was_measured_elsewhere_keeps_its_seconds() -> None:
    clock, seconds = Clock(), iter((1, 20, 300, 4000, 50000, 600000))
    passed = (replace(event, seconds=next(seconds)) for event in events(clock))
    slow = (event for event in passed if (setattr(clock, "now", clock.now + 1e9), True)[1])
    assert measure(slow, clock) == measure(events(fresh := Clock()), fresh)


def test_the_consumers_time_does_not_count() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    for _ in watch.watch(events(clock)):
        clock.now += 1e9
    assert watch.timing() == measure(events(fresh := Clock()), fresh)


def test_missing_steps_are_none() -> None:
    timing = measure([])
    assert timing.prepare_s is timing.image_s is timing.first_token_s is None
    assert timing.decode_tokens_per_s is timing.prefill_tokens_per_s is None
    assert timing.token_s == timing.tokens == ()
