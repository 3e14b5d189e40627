"""Ceilings are measured in their own process, by the fastest of several tries."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from bench.machine.ceilings import Ceilings, best_s
from export.decode import decode


def test_the_command_prints_ceilings() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "bench.machine.ceilings", "1"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    found = decode(Ceilings, json.loads(done.stdout))
    assert found.read_bytes_per_s is not None
    assert found.fp32_flops_per_s is not None
    assert found.read_bytes_per_s > 1e8
    assert found.fp32_flops_per_s > 1e8
    has_onnxruntime = find_spec("onnxruntime") is not None and find_spec("onnx") is not None
    assert (found.int8_ops_per_s is not None) == has_onnxruntime


def test_the_fastest_try_counts_and_the_first_is_a_warm_up() -> None:
    tries: list[int] = []
    assert 0 <= best_s(lambda: tries.append(1), budget_s=0.01) < 0.01
    assert len(tries) > 1
