"""Describes the machine, its software and its load for a record, without host names or paths.

What cannot be read is None.
"""

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from bench.machine.ceilings import Ceilings
from bench.machine.gpu_ceilings import GpuCeilings
from runtimes.devices import usable_cpus
from runtimes.nvidia import driver

# Instruction sets that determine the speed of matrix products at 32, 16, 8 and 4 bits.
FLAGS = (
    *("avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni"),
    *("avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)
CPUS = Path("/sys/devices/system/cpu")
CPUFREQ = CPUS / "cpu0/cpufreq"
NVIDIA = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")


@dataclass(frozen=True)
class Environment:
    """The hardware and software that a run is measured on, as each of its records has it.

    `cpu_flags` are those of FLAGS that the CPU has, `governor` is Linux's CPU frequency policy,
    `max_hz` the CPU's highest clock, `memory_bytes` the whole main memory, `packages` the versions
    of installed libraries by name. None: not known.
    """

    cpu: str | None
    cpu_flags: tuple[str, ...]
    cores: int | None
    """Number of physical cores."""
    usable_cpus: int | None
    """Number of logical CPUs that this process may run on."""
    governor: str | None
    max_hz: int | None
    memory_bytes: int | None
    system: str
    architecture: str
    python: str
    packages: Mapping[str, str]
    revision: str | None
    """Git revision of PocketVLM, with `-dirty` if files were changed."""
    gpus: tuple[str, ...] = ()
    """Name and memory of each GPU, from NVIDIA's driver."""
    gpu_driver: str | None = None
    ceilings: Ceilings | None = None
    """The CPU's highest rates, measured once per run with the job's number of threads; None: not
    measured, as in all runs without a latency job on the CPU."""
    gpu_ceilings: GpuCeilings | None = None
    """The same of the job's GPU; None for a job on the CPU."""

    def unmeasured(self) -> "Environment":
        """Return a copy without the measured ceilings, which vary between runs on one machine."""
        return replace(self, ceilings=None, gpu_ceilings=None)


@dataclass(frozen=True)
class Load:
    """How busy the machine was at one moment; a record has it from before and after the job.

    `load_1m` is Linux's load average over a minute, `available_bytes` the memory still available.
    None: not known.
    """

    load_1m: float | None
    steal_s: float | None
    """CPU seconds since boot, over all CPUs, that the hypervisor gave to other machines."""
    busy_s: float | None = None
    """CPU seconds since boot, over all CPUs, in which they were not idle."""
    hz: float | None = None
    """Clock of the fastest CPU at that moment, in hertz."""
    throttled: int | None = None
    """How often since boot a core was throttled because of heat."""
    available_bytes: int | None = None


def environment(packages: Iterable[str]) -> Environment:
    """Describe this machine, with the versions of those `packages` (PyPI names) that it has."""
    import psutil

    cpuinfo = _lines("/proc/cpuinfo")
    flags = (cpuinfo.get("flags") or cpuinfo.get("Features") or "").split()
    hertz = _text(CPUFREQ / "cpuinfo_max_freq")
    gpus, gpu_driver = gpus_of(_output(*NVIDIA) or "")
    return Environment(
        cpu=cpuinfo.get("model name") or platform.processor() or None,
        cpu_flags=tuple(flag for flag in FLAGS if flag in flags),
        cores=psutil.cpu_count(logical=False),
        usable_cpus=usable_cpus(),
        governor=_text(CPUFREQ / "scaling_governor"),
        max_hz=int(hertz) * 1000 if hertz else None,
        memory_bytes=psutil.virtual_memory().total,
        # The rest of the release can name whoever built the kernel.
        system=f"{platform.system()} {platform.release().partition('-')[0]}",
        architecture=platform.machine(),
        python=platform.python_version(),
        packages={name: version for name in sorted(packages) if (version := _version(name))},
        revision=_revision(Path(__file__).parent.parent.parent),
        gpus=gpus or driver().gpus,
        gpu_driver=gpu_driver,
    )


def gpus_of(listing: str) -> tuple[tuple[str, ...], str | None]:
    """Parse nvidia-smi's lines, such as `A, 8192 MiB, 550.54`.

    Returns `A, 8192 MiB` for each GPU, and the version of the driver; () and None without lines.
    """
    rows = [[word.strip() for word in line.split(",")] for line in listing.splitlines()]
    whole = [row for row in rows if len(row) == 3]
    drivers = [driver for *_, driver in whole]
    return tuple(f"{name}, {memory}" for name, memory, _ in whole), next(iter(drivers), None)


def load() -> Load:
    """Read how busy the machine is now."""
    words = _lines("/proc/stat", separator=" ").get("cpu", "").split()
    ticks = [int(word) / os.sysconf("SC_CLK_TCK") for word in words]
    available = _lines("/proc/meminfo").get("MemAvailable", "").split()
    return Load(
        load_1m=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        steal_s=ticks[7] if len(ticks) > 7 else None,
        # man 5 proc_stat: user, nice, system, idle, iowait, irq, softirq, steal
        busy_s=sum((*ticks[:3], *ticks[5:7])) if len(ticks) > 7 else None,
        hz=_hz(),
        throttled=_throttled(),
        available_bytes=int(available[0]) * 1024 if available else None,
    )


def _hz() -> float | None:
    """Read the clock of the fastest CPU in hertz; None if not known.

    It comes from cpufreq, or without that from /proc/cpuinfo (x86).
    """
    scaled = [_text(path) for path in CPUS.glob("cpu[0-9]*/cpufreq/scaling_cur_freq")]
    if clocks := [float(text) * 1e3 for text in scaled if text]:
        return max(clocks)
    lines = (_text(Path("/proc/cpuinfo")) or "").splitlines()
    clocks = [float(line.partition(":")[2]) * 1e6 for line in lines if line.startswith("cpu MHz")]
    return max(clocks, default=None)


def _throttled() -> int | None:
    """Count how often cores were throttled for heat since boot (Intel); None on other CPUs."""
    texts = [_text(path) for path in CPUS.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    counts = [int(text) for text in texts if text]
    return sum(counts) if counts else None


def _lines(path: str, separator: str = ":") -> Mapping[str, str]:
    """Read a file of `key<separator>value` lines; return the first value of each key.

    Empty if there is no such file.
    """
    values: dict[str, str] = {}
    for line in (_text(Path(path)) or "").splitlines():
        key, _, value = line.partition(separator)
        values.setdefault(key.strip(), value.strip())
    return values


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _revision(checkout: Path) -> str | None:
    if not (checkout / ".git").exists():
        return None
    describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    return _output("git", "-C", str(checkout), *describe)


def _output(*command: str) -> str | None:
    """Run a program and return what it prints; None if it is missing, fails or prints nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip() or None
