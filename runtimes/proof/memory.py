"""Estimates the memory that a proof needs, and reads how much is free (Linux)."""

import math
from pathlib import Path

from export.artifact import Artifact
from export.model import Model

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
FLOAT_BYTES = 4
LIBRARIES_BYTES = 10**9
"""Estimated code and working memory of torch and ONNX Runtime."""
SESSION_FACTOR = 1.3
"""Estimated peak memory of a session per byte of its files: loading has some weights twice."""


def free_bytes(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int | None:
    """Returns how many bytes of memory are free: in the system or, if less, in the container.

    None if neither is known. `meminfo` and `cgroup` are the system's files that say so.
    """
    free = []
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free.append(int(lines["MemAvailable"].split()[0]) * 1024)
    limit, used = cgroup / "memory.max", cgroup / "memory.current"
    if limit.exists() and used.exists() and (most := limit.read_text().strip()) != "max":
        free.append(max(0, int(most) - int(used.read_text())))
    return min(free, default=None)


def proof_bytes(model: Model, artifact: Artifact) -> int:
    """Returns an estimate of the peak memory of a proof, in bytes.

    At its peak, a proof holds a session of the artifact, the reference's largest tensor in float32,
    and the libraries' own memory.
    """
    largest = max(math.prod(shape) for shape in model.weights.shapes().values())
    return (
        int(SESSION_FACTOR * artifact.manifest.total_bytes)
        + FLOAT_BYTES * largest
        + LIBRARIES_BYTES
    )


def too_little(needed_bytes: int, free: int | None) -> str | None:
    """Returns one line that says that the free memory is too small; None if it suffices.

    `free`: free memory in bytes; None (unknown) counts as enough.
    """
    if free is None or needed_bytes <= free:
        return None
    return (
        f"the proof needs about {needed_bytes / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are "
        f"free; export on a larger machine to prove it"
    )
