"""`bench run` measures in Chromium as anywhere else, and goes on when Chromium does not."""

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from bench.record import Record, read
from export.artifact import Artifact

pytestmark = pytest.mark.browser

LOADED_BYTES = 150_000_000
"""Of a renderer, which has less before a page computes in it."""
FEW = ["--rounds", "1", "--repeats", "1", "--decode-tokens", "4", "--threads", "1", "--no-ceilings"]


def bench(output: Path, artifact: Artifact, *words: str) -> list[str]:
    command = [sys.executable, "-m", "bench", "run", str(artifact.path), "--task", "latency", *FEW]
    return [*command, "-o", str(output), *words]


def records(output: Path) -> dict[str, Record]:
    """By runtime."""
    found, damages = read([output])
    assert damages == []
    return {record.case.runtime: record for record in found}


def test_a_record_has_the_pages_times_and_the_renderers_memory(
    artifact: Artifact, tmp_path: Path
) -> None:
    output = tmp_path / "run.jsonl"
    subprocess.run(bench(output, artifact, "--runtime", "browser"), check=True)
    (record,) = records(output).values()
    assert (record.status, record.reason) == ("ok", None)
    (timing,) = record.outcome.timings
    assert len(timing.token_s) == 3
    assert None not in (timing.prepare_s, timing.image_s, timing.prefill_s, record.outcome.load_s)
    phases = {memory.phase: memory for memory in record.outcome.memory}
    assert list(phases) == ["loaded", "image", "prefill", "decode", "answers"]
    assert (phases["decode"].pss_bytes or 0) > LOADED_BYTES
    browser = record.outcome.browser
    assert browser is not None
    assert "Chrome" in browser.user_agent
    assert (browser.device, browser.threads, browser.secure_context) == ("wasm", 1, True)
    assert (browser.page_bytes or 0) > 1_000_000
    assert set(browser.packages) == {"@huggingface/transformers", "onnxruntime-web"}


@pytest.mark.parametrize(
    ("signal_", "timeout", "reason"),
    [
        (signal.SIGKILL, "600", "its process ended, usually because memory ran out"),
        (signal.SIGSTOP, "60", "stopped after 60 s (--timeout)"),
    ],
    ids=["dies", "hangs"],
)
def test_a_browser_that_dies_or_hangs_is_a_failed_record_and_the_sweep_goes_on(
    artifact: Artifact,
    tmp_path: Path,
    signal_: signal.Signals,
    timeout: str,
    reason: str,
) -> None:
    output = tmp_path / "run.jsonl"
    words = ("--runtime", "browser", "--runtime", "onnxruntime", "--timeout", timeout)
    run = subprocess.Popen(bench(output, artifact, *words), stderr=subprocess.DEVNULL)
    below, working = awaited(run.pid)
    working.send_signal(signal_)
    assert run.wait(timeout=300) == 1
    ended = records(output)
    assert ended["browser"].status == "failed"
    assert reason in str(ended["browser"].reason)
    assert "\n" not in str(ended["browser"].reason)
    assert ended["onnxruntime"].status == "ok"
    _, left = psutil.wait_procs(below, timeout=20)
    assert left == []


def awaited(parent: int) -> tuple[list[psutil.Process], psutil.Process]:
    """All processes below a parent, and the one that computes, as soon as it does."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        below = psutil.Process(parent).children(recursive=True)
        for process in below:
            with suppress(psutil.NoSuchProcess):
                renders = any(word.startswith("--type=renderer") for word in process.cmdline())
                if renders and process.memory_info().rss > LOADED_BYTES:
                    return below, process
        time.sleep(0.2)
    raise AssertionError("no page has begun to compute")
