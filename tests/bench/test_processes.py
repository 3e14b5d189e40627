"""Each job has its own process; whatever becomes of that process, there is a record."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from bench.jobs.limits import choose_cpus, memory_group
from bench.jobs.plan import Job
from bench.jobs.processes import run_job, variables
from bench.machine.profiles import PROFILES, Profile
from runtimes import RUNTIMES
from runtimes.nvidia import GpuState
from tests.bench.made import ENVIRONMENT, MakeJob

ROOT = Path(__file__).parents[2]
T = TypeVar("T")


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
    assert phases == ["start", "loaded", "image", "prefill", "decode", "answers"]
    assert record.outcome.load_s is not None
    assert record.outcome.work is not None
    assert record.outcome.work.decode_flops is not None
    assert record.cpu_s is not None
    assert record.cpu_s > 0


def test_the_busy_process_is_not_counted_as_the_job(make_job: MakeJob) -> None:
    job = make_job({"token": {"delay_s": 0.5}}, decode_tokens=5, repeats=1, contended=True)
    record = run_job(job, 60, ENVIRONMENT)
    assert record.status == "ok"
    assert record.wall_s is not None
    assert record.cpu_s is not None
    assert record.wall_s > 5
    assert record.cpu_s < record.wall_s - 2.5  # the busy process computed all the time
    assert not any("other processes" in sentence for sentence in record.noise)


def test_text_prompts_have_exact_lengths(make_job: MakeJob) -> None:
    job = make_job(prompt="text", prefill_tokens=33, decode_tokens=5, repeats=1)
    (timing,) = run_job(job, 60, ENVIRONMENT).outcome.timings
    assert (timing.prompt_positions, timing.image_positions) == (33, None)
    assert (timing.image_s, len(timing.tokens)) == (None, 5)


def test_native_output_does_not_damage_the_record(make_job: MakeJob) -> None:
    job = make_job({"load": {"says": 'ggml: {"outcome": 1}\n'}}, repeats=1)
    assert run_job(job, 60, ENVIRONMENT).status == "ok"


def test_the_job_reports_each_phase_and_waits_for_the_parent(make_job: MakeJob) -> None:
    heard: list[str] = []
    record = run_job(make_job(repeats=1), 60, ENVIRONMENT, heard.append)
    assert record.status == "ok"
    assert heard == ["starting", "loading", "warming up", "measuring", "loading again"]


def test_a_job_is_pinned_to_as_many_cpus_as_it_has_threads(make_job: MakeJob) -> None:
    assert run_job(make_job(repeats=1), 60, ENVIRONMENT).outcome.cpus == choose_cpus(1)


@pytest.fixture
def profile(monkeypatch: pytest.MonkeyPatch) -> str:
    """A device of 200 MB."""
    monkeypatch.setitem(dict_of(PROFILES), "tiny", Profile(1, 200_000_000, "phone"))
    return "tiny"


def dict_of(table: Mapping[str, Profile]) -> dict[str, Profile]:
    assert isinstance(table, dict)
    return table


def on(job: Job, profile: str) -> Job:
    return replace(job, case=replace(job.case, profile=profile))


def test_a_job_within_its_budget_fits(make_job: MakeJob, profile: str) -> None:
    outcome = run_job(on(make_job(repeats=1), profile), 60, ENVIRONMENT).outcome
    assert (outcome.fits, outcome.budget_bytes) == (True, 200_000_000)
    assert outcome.held_by in ("cgroup", "watchdog")


def test_without_a_profile_a_job_is_not_limited(make_job: MakeJob) -> None:
    outcome = run_job(make_job(repeats=1), 60, ENVIRONMENT).outcome
    assert (outcome.held_by, outcome.fits, outcome.budget_bytes) == (None, None, None)


DRIVER = """
import os
from types import SimpleNamespace

class NVMLError(Exception):
    pass

def nvmlInit(): pass
def nvmlShutdown(): pass
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetClockInfo(handle, clock): return 1980
def nvmlDeviceGetTemperature(handle, sensor): return 45
def nvmlDeviceGetPowerUsage(handle): raise NVMLError
def nvmlDeviceGetCurrentClocksThrottleReasons(handle): raise NVMLError
def nvmlDeviceGetMemoryInfo(handle): return SimpleNamespace(used={mebibytes} << 20)
def nvmlDeviceGetComputeRunningProcesses(handle):
    return [SimpleNamespace(pid={process}, usedGpuMemory={mebibytes} << 20)]
"""


@pytest.mark.parametrize(
    ("process", "mebibytes", "fits"),
    [("os.getpid()", 90, True), ("os.getpid()", 300, False), ("1", 90, None)],
)
def test_on_a_gpu_its_memory_determines_the_verdict(
    make_job: MakeJob,
    profile: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    process: str,
    mebibytes: int,
    fits: bool | None,
) -> None:
    (tmp_path / "pynvml.py").write_text(DRIVER.format(process=process, mebibytes=mebibytes))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    job = make_job({"image": {"bytes": 400_000_000}}, repeats=1)
    job = replace(job, case=replace(job.case, profile=profile, device="cuda"))
    outcome = run_job(job, 60, ENVIRONMENT).outcome
    assert (outcome.fits, outcome.budget_bytes, outcome.held_by) == (fits, 200_000_000, None)
    assert len(outcome.timings) == 1
    assert outcome.gpu_after == GpuState(1980e6, 1980e6, 45.0, None)
    source = None if fits is None else "process"
    assert {memory.device_source for memory in outcome.memory} == {source}


@pytest.fixture(params=["cgroup", "watchdog"])
def holder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What holds a job here: what the system has, or what stands in for it."""
    with memory_group(10**9) as group:
        if group is None and request.param == "cgroup":
            pytest.skip("no cgroup can be made here")
    if request.param == "watchdog":
        monkeypatch.setattr("bench.jobs.processes.memory_group", lambda budget: nullcontext(None))
    return str(request.param)


def test_a_job_beyond_its_budget_is_stopped_with_its_peak(
    make_job: MakeJob, profile: str, holder: str
) -> None:
    job = on(make_job({"image": {"bytes": 400_000_000, "delay_s": 20}}, repeats=1), profile)
    record = run_job(job, 60, ENVIRONMENT)
    assert (record.status, record.outcome.fits) == ("failed", False)
    assert record.outcome.held_by == holder
    assert re.search(
        r"^does not fit: stopped at \d+ MB of a budget of 200 MB$", record.reason or ""
    )
    (memory,) = record.outcome.memory
    assert memory.peak_bytes is not None
    # A kernel stops it just before, a watchdog finds it beyond.
    assert memory.peak_bytes > 199_000_000
    assert record.wall_s is not None
    assert record.wall_s < 10


def test_a_burst_between_two_checks_is_found(make_job: MakeJob, profile: str) -> None:
    """Each phase's own peak decides, which the kernel keeps."""
    job = on(make_job({"image": {"bytes": 150_000_000}}, repeats=1), profile)
    outcome = run_job(job, 60, ENVIRONMENT).outcome
    assert outcome.fits is False


def test_a_process_that_cannot_be_started_is_recorded(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    record = run_job(make_job(), 60, ENVIRONMENT)
    assert record.status == "failed"
    assert "could not be started: No such file" in (record.reason or "")


PARENT = """
import os
import sys
from bench.jobs.child import StopConditions, run_child
from bench.jobs.launch import command
from bench.jobs.limits import Limits
from bench.jobs.processes import variables
sleep = "__import__('time').sleep(60)"
words = command(Limits(os.getpid(), (), None), "timeit", "-n1", "-r1", sleep)
sys.stdout.write("ready\\n")
sys.stdout.flush()
run_child(words, b"", variables(1), StopConditions(), lambda line: False)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_killed_parent_leaves_no_child() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    parent.stdout.readline()
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    child = wait_for(lambda: children.read_text().split())[0]
    wait_for(lambda: b"timeit" in Path(f"/proc/{child}/cmdline").read_bytes())
    time.sleep(0.3)  # it has to reach prctl
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert wait_for(lambda: not alive(child))


def wait_for(condition: Callable[[], T], limit_s: float = 10.0) -> T:
    """The condition's value as soon as it is true."""
    end = time.monotonic() + limit_s
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return value


def alive(process: str) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False


FAILURES = [
    ({"token": {"signal": 6}}, "killed by SIGABRT"),
    (
        {"image": {"signal": 9}},
        r"killed by SIGKILL \(by the system, usually because memory ran out\)",
    ),
    ({"load": {"refuse": "the image is too large"}}, "^the image is too large$"),
    ({"load": {"says": "last words", "signal": 11}}, "SIGSEGV .*last words"),
    ({"prefill": {"bytes": 10**15}}, "exit code 1.*Unable to allocate"),
]


def test_an_abort_inside_llama_cpp_becomes_a_record_with_the_assertion(
    make_job: MakeJob,
) -> None:
    pytest.importorskip("llama_cpp")
    aborting = make_job({"prefill": {"ggml_assert": "GGML_ASSERT(n_tokens > 0) failed"}}, repeats=1)
    record = run_job(aborting, 60, ENVIRONMENT)
    assert record.status == "failed"
    assert "killed by SIGABRT (it aborted itself)" in (record.reason or "")
    assert "fake.cpp:1: GGML_ASSERT(n_tokens > 0) failed" in (record.reason or "")


def test_an_abort_by_exhausted_gpu_memory_has_that_reason(make_job: MakeJob) -> None:
    pytest.importorskip("llama_cpp")
    said = "CUDA error: out of memory"
    record = run_job(make_job({"token": {"ggml_assert": said}}, repeats=1), 60, ENVIRONMENT)
    assert (record.reason or "").startswith("killed by SIGABRT (memory ran out); last output: ")


def test_variables_of_a_runtimes_row_are_set_for_it_only(monkeypatch: pytest.MonkeyPatch) -> None:
    row = RUNTIMES["llama_cpp_no_graphs"]
    (name,) = row.variables
    monkeypatch.setenv(name, "1")
    assert name not in variables(1)
    assert (
        replace(row, variables={}, hidden=False, devices=("cpu", "cuda")) == RUNTIMES["llama_cpp"]
    )


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
    assert "stopped after 3 s (--timeout); last output: waiting for a lock" in (record.reason or "")
    assert record.wall_s is not None
    assert record.wall_s < 20


def test_offline_also_applies_to_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert variables(1, offline=True)["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in variables(1)


def test_what_is_measured_is_what_was_planned(make_job: MakeJob) -> None:
    job = make_job()
    manifest = Path(job.location) / "artifact.json"
    manifest.write_text(manifest.read_text().replace("fake-model", "another"))
    record = run_job(job, 60, ENVIRONMENT)
    assert record.status == "failed"
    assert record.reason == (
        "fake-model: changed since the run was planned: artifact.json has another SHA-256; run "
        "again"
    )
