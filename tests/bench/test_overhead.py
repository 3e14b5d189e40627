"""Measuring costs less than what it measures."""

from bench.overhead import Overhead, Turns, line, timer_s


def test_stamping_an_event_takes_microseconds() -> None:
    assert timer_s(events=20_000) < 20e-6


def test_ratios_are_of_pairs_and_of_the_fastest() -> None:
    step = Turns((2.0, 4.0, 9.0), (1.0, 4.0, 3.0))
    assert (step.ratio.value, step.best_ratio) == (2.0, 2.0)
    found = Overhead("fake", Turns((3.0, 3.0, 3.0), (2.0, 3.0, 4.0)), step, 0.04)
    assert found.timer_share == 0.01
    assert "decode step 4000.000 ms, bare loop 3000.000 ms, ratio 2.0000 [1.0000, 3.0000]" in line(
        found
    )
    assert "fake: prompt 3000.000 ms, bare loop 3000.000 ms, ratio 1.0000" in line(found)
