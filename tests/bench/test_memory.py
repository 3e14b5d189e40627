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
def test_memory_at_the_end_of_a_phase_is_split() -> None:
    phases = Phases()
    phases.end("loaded")
    (memory,) = phases.done
    assert memory.rss_bytes is not None
    assert memory.pss_bytes is not None
    assert memory.private_bytes is not None
    assert memory.file_bytes is not None
    assert 0 < memory.file_bytes <= memory.pss_bytes <= memory.rss_bytes
