"""Peaks are per phase and true: a known allocation is found within 2 %."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.machine.memory import Phases, reset_peak

ALLOCATED = 200_000_000
PROGRAM = f"""
import json
import numpy as np
from bench.machine.memory import Phases

phases = Phases()
phases.end("before")
block = np.ones({ALLOCATED}, np.uint8)
del block
phases.end("during")
phases.end("after")
print(json.dumps([phase.peak_bytes for phase in phases.done]))
"""


@pytest.mark.skipif(not reset_peak(), reason="/proc/self/clear_refs is not writable here")
def test_the_peak_of_a_phase_is_of_its_own_allocations() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True, check=True
    )
    before, during, after = json.loads(done.stdout)
    assert during - before == pytest.approx(ALLOCATED, rel=0.02)
    assert after - before == pytest.approx(0, abs=0.02 * ALLOCATED)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux only")
def test_the_memory_of_other_processes_is_theirs_alone() -> None:
    program = f"block = b'x' * {ALLOCATED}; print(len(block)); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    phases = Phases()
    phases.end("start")
    others = [subprocess.Popen([sys.executable, "-c", program], **pipes) for _ in range(2)]
    for other in others:
        assert other.stdout is not None
        assert int(other.stdout.readline()) == ALLOCATED
    phases.follow([other.pid for other in others])
    phases.end("loaded")
    for other in others:
        other.communicate(b"\n")
    phases.end("gone")
    loaded, gone = phases.done
    assert loaded.phase == "loaded"
    assert 2 * ALLOCATED < (loaded.rss_bytes or 0) < 2 * ALLOCATED + 100_000_000
    assert (gone.rss_bytes, gone.peak_bytes) == (None, None)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux only")
def test_memory_at_the_end_of_a_phase_is_split() -> None:
    phases = Phases()
    phases.end("loaded")
    (memory,) = phases.done
    assert memory.rss_bytes is not None
    assert memory.pss_bytes is not None
    assert memory.private_bytes is not None
    assert memory.file_bytes is not None
    assert 0 < memory.file_bytes <= memory.pss_bytes <= memory.rss_bytes
