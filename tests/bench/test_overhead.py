"""The overhead of our sessions and stopwatch against a bare loop."""

from pathlib import Path

import pytest
from tiny_models import tiny_artifact

from bench.commands.overhead import Overhead, Turns, line, overhead, timer_s
from bench.options import LatencyOptions
from export.checkpoint.registry import open_model
from export.errors import UserError
from runtimes.peers.onnx_loop import open_backend


def test_stamping_an_event_takes_microseconds() -> None:
    assert timer_s(events=20_000) < 20e-6


def test_ratios_are_of_pairs_of_every_opening() -> None:
    step = Turns(((2.0, 4.0), (9.0,)), ((1.0, 4.0), (3.0,)))
    assert (step.ratio.value, step.ratio.n, step.medians_s) == (2.0, 3, (4.0, 3.0))
    found = Overhead("fake", Turns(((3.0, 3.0), (3.0,)), ((2.0, 3.0), (4.0,))), step, 0.04)
    assert found.timer_share == 0.01
    assert "decode step 4000.000 ms, bare loop 3000.000 ms, ratio 2.0000 [1.0000, 3.0000]" in line(
        found
    )
    assert "fake: prompt 3000.000 ms, bare loop 3000.000 ms, ratio 1.0000" in line(found)
    assert "(medians of 3 pairs in 2 openings)" in line(found)


def test_a_single_pair_has_no_interval() -> None:
    step = Turns(((2.0,),), ((1.0,),))
    said = line(Overhead("fake", step, step, 0.04))
    assert "ratio 2.0000; decode step" in said
    assert "ratio 2.0000 (medians of 1 pair in 1 opening)" in said


@pytest.mark.parametrize(
    ("name", "layout"), [("tiny-smolvlm", "cuda"), ("tiny-gemma3", "transformers.js")]
)
def test_a_bare_loop_refuses_layouts_that_it_does_not_run(
    name: str, layout: str, tmp_path: Path
) -> None:
    artifact = tiny_artifact(open_model(name), "onnx", "fp16", tmp_path, layout)
    with pytest.raises(UserError, match=f"a bare loop does not run layout {layout}; export with"):
        open_backend(artifact, threads=1)


@pytest.mark.parametrize("name", ["tiny-smolvlm", "tiny-gemma3", "tiny-qwen2.5-vl"])
def test_a_bare_loop_chooses_the_same_tokens_as_our_session(name: str, tmp_path: Path) -> None:
    """Raises where it does not."""
    artifact = tiny_artifact(open_model(name, weights="synthetic"), "onnx", "int8", tmp_path)
    options = LatencyOptions(prompt="text", prefill_tokens=9, decode_tokens=4)
    found = overhead(artifact, threads=1, pairs=2, openings=2, options=options)
    assert [len(opening) for opening in found.step.ours_s] == [1, 1]
