"""The progress of a run: jobs done, phases, and the estimated time left."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from bench.jobs.progress import left, showing
from bench.record import Case, Record
from tests.bench.made import accuracy, latency, subject


def of(runtime: str, recipe: str, *records: Record) -> list[Case]:
    return [replace(r.case, runtime=runtime, subject=subject(recipe, 1)) for r in records]


ROUNDS = latency(subject("int4", 1), "onnxruntime", 1, 10**8)
A, B = (of("onnxruntime", recipe, *ROUNDS) for recipe in ("int4", "int8"))
C = of("llama_cpp", "int4", *ROUNDS)
(ASKED,) = of("onnxruntime", "int4", accuracy(subject("int4", 1), "onnxruntime", 1))


@pytest.mark.parametrize(
    ("rest", "seconds"),
    [
        ([A[1]], 2.0),  # its own first round
        ([B[1]], 9.0),
        ([C[0]], 4.0),  # no other of its runtime: the median of the task
        ([A[1], B[1], C[0]], 15.0),
    ],
)
def test_the_estimate_is_of_the_most_similar_ended_jobs(rest: list[Case], seconds: float) -> None:
    ended = [(A[0], 2.0), (B[0], 9.0), (replace(A[0], runtime="reference"), 4.0)]
    assert left(ended, rest) == (seconds, [])


def test_a_task_without_ended_jobs_is_named_and_not_estimated() -> None:
    assert left([(A[0], 2.0)], [A[1], ASKED, ASKED]) == (2.0, ["easy-vqa"])


def test_without_a_terminal_each_job_is_a_line_with_the_time_left() -> None:
    told = Console(file=io.StringIO(), width=200)
    with showing(told, [*A, ASKED]) as shown:
        shown.phase(A[0], "measuring")
        shown.end(replace(ROUNDS[0], case=A[0]))
        shown.end(replace(ROUNDS[1], case=A[1], status="failed", reason="it [broke]"))
    assert isinstance(told.file, io.StringIO)
    assert told.file.getvalue().splitlines() == [
        "1/3 done in 2.0 s: tiny-smolvlm onnx int4 on onnxruntime: latency, round 1, "
        "about 2 s left, then easy-vqa",
        "failed: tiny-smolvlm onnx int4 on onnxruntime: latency, round 2: it [broke]",
    ]


def test_on_a_terminal_a_bar_has_the_count_the_phase_and_the_time_left() -> None:
    told = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    with showing(told, A) as shown:
        shown.end(replace(ROUNDS[0], case=A[0]))
        shown.phase(A[1], "warming up")
    assert isinstance(told.file, io.StringIO)
    last = told.file.getvalue().replace("\r", "\n").splitlines()
    expected = (
        "1/2",
        "tiny-smolvlm onnx int4 on onnxruntime: latency, round 2, warming up, about 2 s left",
    )
    assert any(all(part in line for part in expected) for line in last)
