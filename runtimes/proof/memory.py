"""Estimates the memory that a proof needs, and reads how much is free (Linux)."""

import math
from pathlib import Path

from export.artifact import Artifact
from export.model import Model

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
FLOAT_BYTES = 4
LIBRARIES_BYTES = 10**9
"""Code and working memory of torch and ONNX Runtime."""
SESSION_FACTOR = 1.3
"""Peak bytes of a session per byte of its files: loading holds part of the weights twice."""


def free_bytes(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int | None:
    """Memory that the system and a container's limit leave, in bytes; None if neither is known."""
    free = []
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free.append(int(lines["MemAvailable"].split()[0]) * 1024)
    limit, used = cgroup / "memory.max", cgroup / "memory.current"
    if limit.exists() and used.exists() and (most := limit.read_text().strip()) != "max":
        free.append(max(0, int(most) - int(used.read_text())))
    return min(free, default=None)


def proof_bytes(model: Model, artifact: Artifact) -> int:
    """Estimated peak memory of a proof in bytes.

    It has a session of the artifact, and of the reference one tensor at a time.
    """
    largest = max(math.prod(shape) for shape in model.weights.shapes().values())
    return (
        int(SESSION_FACTOR * artifact.manifest.total_bytes)
        + FLOAT_BYTES * largest
        + LIBRARIES_BYTES
    )


def too_little(needed_bytes: int, free: int | None) -> str | None:
    """One line that says why the memory is too small; None if it suffices or is unknown."""
    if free is None or needed_bytes <= free:
        return None
    return (
        f"the proof needs about {needed_bytes / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are "
        f"free; export on a larger machine to prove it"
    )
