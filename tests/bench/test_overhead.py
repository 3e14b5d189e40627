"""Measuring costs less than what it measures."""

from bench.overhead import Overhead, line, timer_s


def test_stamping_an_event_takes_microseconds() -> None:
    assert timer_s(events=20_000) < 20e-6


def test_ratios_are_of_pairs_and_of_the_fastest() -> None:
    found = Overhead("fake", (2.0, 4.0, 9.0), (1.0, 4.0, 3.0), 0.04)
    assert (found.ratio.value, found.best_ratio) == (2.0, 2.0)
    assert found.timer_share == 0.01
    assert "ratio 2.0000 [1.0000, 3.0000] (median of 3 pairs; 2.0000 at their fastest)" in line(
        found
    )
