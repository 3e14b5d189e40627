"""Measuring costs less than what it measures."""

from pathlib import Path

import pytest
from tiny_models import tiny_artifact

from bench.overhead import Overhead, Pairs, line, overhead, timer_s
from bench.record import Options
from export.registry import open_model


def test_stamping_an_event_takes_microseconds() -> None:
    assert timer_s(events=20_000) < 20e-6


def test_ratios_are_of_pairs_of_every_opening() -> None:
    openings = (Pairs((2.0, 4.0), (1.0, 4.0)), Pairs((9.0,), (3.0,)))
    found = Overhead("fake", openings, 0.04)
    assert (found.ratio.value, found.ratio.n) == (2.0, 3)
    assert (found.step_s, found.bare_s, found.timer_share) == (4.0, 3.0, 0.01)
    assert "ratio 2.0000 [1.0000, 3.0000] (median of 3 pairs in 2 openings)" in line(found)


@pytest.mark.parametrize("name", ["tiny-smolvlm", "tiny-gemma3", "tiny-qwen2.5-vl"])
def test_a_bare_loop_chooses_what_our_session_does(name: str, tmp_path: Path) -> None:
    """Raises where it does not."""
    artifact = tiny_artifact(open_model(name, weights="synthetic"), "onnx", "int8", tmp_path)
    options = Options(prompt="text", prefill_tokens=9, decode_tokens=4)
    found = overhead(artifact, threads=1, pairs=2, openings=2, options=options)
    assert [len(pairs.ratios) for pairs in found.openings] == [1, 1]
