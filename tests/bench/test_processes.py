"""Each job has its own process; whatever becomes of that process, there is a record."""

import re
from typing import Any

import pytest

from bench.processes import run_job
from tests.bench.made import ENVIRONMENT, MakeJob


def test_a_job_gives_a_record_with_raw_samples(make_job: MakeJob) -> None:
    job = make_job({"token": {"delay_s": 0.01}}, decode_tokens=3, repeats=2)
    record = run_job(job, 60, ENVIRONMENT)
    assert (record.status, record.reason) == ("ok", None)
    assert [len(timing.tokens) for timing in record.outcome.timings] == [3, 3]
    assert len(record.outcome.warmups) == 1
    for timing in record.outcome.timings:
        assert len(timing.token_s) == 2
        assert min(timing.token_s) >= 0.01
    phases = [memory.phase for memory in record.outcome.memory]
    assert phases == ["start", "loaded", "image", "prefill", "decode"]
    assert record.outcome.load_s is not None


def test_text_prompts_have_exact_lengths(make_job: MakeJob) -> None:
    job = make_job(prompt="text", prefill_tokens=33, decode_tokens=5, repeats=1)
    (timing,) = run_job(job, 60, ENVIRONMENT).outcome.timings
    assert (timing.prompt_positions, timing.image_positions) == (33, None)
    assert (timing.image_s, len(timing.tokens)) == (None, 5)


def test_native_output_does_not_damage_the_record(make_job: MakeJob) -> None:
    job = make_job({"load": {"says": 'ggml: {"outcome": 1}\n'}}, repeats=1)
    assert run_job(job, 60, ENVIRONMENT).status == "ok"


FAILURES = [
    ({"token": {"signal": 6}}, "killed by SIGABRT"),
    ({"image": {"signal": 9}}, r"killed by SIGKILL \(by the system, usually for want of memory\)"),
    ({"load": {"refuse": "the image is too large"}}, "^the image is too large$"),
    ({"load": {"says": "last words", "signal": 11}}, "SIGSEGV .*last words"),
    ({"prefill": {"bytes": 10**15}}, "exit code 1.*Unable to allocate"),
]


@pytest.mark.parametrize(("script", "reason"), FAILURES)
def test_a_failure_becomes_a_record_with_its_reason(
    make_job: MakeJob, script: dict[str, Any], reason: str
) -> None:
    record = run_job(make_job(script, repeats=1), 60, ENVIRONMENT)
    assert record.status == "failed"
    assert re.search(reason, record.reason or "")
    assert record.outcome.timings == ()


def test_a_hanging_job_is_stopped_and_recorded(make_job: MakeJob) -> None:
    job = make_job({"load": {"says": "waiting for a lock", "delay_s": 600}})
    record = run_job(job, 3, ENVIRONMENT)
    assert record.status == "failed"
    assert "stopped after 3 s (--timeout); it last said: waiting for a lock" in (
        record.reason or ""
    )
    assert record.wall_s is not None
    assert record.wall_s < 20
