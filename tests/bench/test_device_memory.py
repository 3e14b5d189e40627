"""GPU memory of a process, and the state of a card, from the driver's figures."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from bench.analysis.noise import noise
from bench.machine.device_memory import DeviceMemory
from bench.record import Outcome
from runtimes.nvidia import GpuMemory, GpuState, memory_of, state_of
from tests.bench.made import record, subject

OWN = 4711


class FakeNvml:
    """NVML of a card of 100 MHz, at work for the processes given."""

    class NVMLError(Exception):
        pass

    def __init__(self, processes: dict[int, int | None], used: int, unknown: str = "") -> None:
        self._processes, self._used, self._unknown = processes, used, unknown

    def nvmlDeviceGetComputeRunningProcesses(self, handle: object) -> list[Any]:
        rows = self._processes.items()
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in rows]

    def nvmlDeviceGetMemoryInfo(self, handle: object) -> Any:
        return SimpleNamespace(used=self._used)

    def nvmlDeviceGetClockInfo(self, handle: object, kind: int) -> int:
        return 100 * kind

    def nvmlDeviceGetTemperature(self, handle: object, sensor: int) -> int:
        return 45 + sensor

    def nvmlDeviceGetPowerUsage(self, handle: object) -> int:
        if self._unknown == "power":
            raise self.NVMLError
        return 250_500

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: object) -> int:
        return 0x01 | 0x04 | 0x20  # idle, power cap, heat


def readings(*found: FakeNvml) -> DeviceMemory:
    told = iter([memory_of(nvml, None, OWN) for nvml in found])
    return DeviceMemory(lambda: next(told))


IDLE = FakeNvml({}, 600)
CASES = {
    "the driver's figure for the process": (IDLE, FakeNvml({OWN: 900}, 1500), (900, "process")),
    "also beside others": (
        FakeNvml({1: 5000}, 5600),
        FakeNvml({1: 5000, OWN: 900}, 6500),
        (900, "process"),
    ),
    "of an idle card what it gave since": (IDLE, FakeNvml({}, 1500), (900, "card")),
    "by another number, as in a container": (IDLE, FakeNvml({7: None}, 1500), (900, "card")),
    "nothing of a card that others used": (FakeNvml({1: 90}, 690), FakeNvml({}, 900), (None, None)),
    "nothing where others came": (IDLE, FakeNvml({7: 300, 8: 600}, 1500), (None, None)),
}


@pytest.mark.parametrize("case", CASES)
def test_device_memory_is_of_the_process_or_unknown(case: str) -> None:
    before, now, expected = CASES[case]
    assert readings(before, now).now() == expected


def test_without_a_driver_device_memory_is_unknown() -> None:
    assert DeviceMemory(lambda: None).now() == (None, None)


def test_state_has_clocks_heat_power_and_throttling_but_not_idleness() -> None:
    expected = GpuState(100e6, 200e6, 45.0, 250.5, ("power cap", "heat"))
    assert state_of(IDLE, None) == expected
    assert state_of(FakeNvml({}, 0, unknown="power"), None) == replace(expected, watts=None)


def test_a_throttled_gpu_is_a_disturbance() -> None:
    hot = GpuState(100e6, None, 90.0, None, ("heat",))
    made = record(subject("int4", 1.5), "fake", "latency", Outcome(gpu_after=hot))
    assert "the GPU was throttled at the end (heat)" in noise(made)
    assert GpuMemory(None, 0, 0) == memory_of(FakeNvml({}, 0), None, OWN)
