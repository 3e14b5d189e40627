"""The environment contains what can be read, and None for the rest."""

import json
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from bench.machine.environment import environment, gpus_of, load

LINUX = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="Linux only")


def test_versions_are_of_installed_packages() -> None:
    found = environment(["numpy", "no-such-library"])
    assert list(found.packages) == ["numpy"]
    assert found.usable_cpus is not None
    assert found.ceilings is None
    assert json.dumps(asdict(found))


@LINUX
def test_busy_time_is_counted() -> None:
    before, end = load(), time.monotonic() + 0.3
    while time.monotonic() < end:
        pass
    after = load()
    assert before.busy_s is not None
    assert after.busy_s is not None
    assert after.busy_s - before.busy_s > 0.2


@LINUX
def test_available_memory_is_less_than_total_memory() -> None:
    left, whole = load().available_bytes, environment([]).memory_bytes
    assert left is not None
    assert whole is not None
    assert 0 < left < whole


def test_the_driver_version_is_not_a_packages_version(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "NVIDIA A, 8192 MiB, 550.54"
    monkeypatch.setattr("bench.machine.environment._output", lambda *words: said)
    found = environment(["numpy"])
    assert (found.gpus, found.gpu_driver) == (("NVIDIA A, 8192 MiB",), "550.54")


def test_gpus_are_listed_with_their_memory() -> None:
    listing = "NVIDIA A, 8192 MiB, 550.54\nNVIDIA B, 4096 MiB, 550.54\n"
    assert gpus_of(listing) == (("NVIDIA A, 8192 MiB", "NVIDIA B, 4096 MiB"), "550.54")
    assert gpus_of("") == ((), None)
    assert gpus_of("No devices were found\n") == ((), None)
