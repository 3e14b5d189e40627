"""How much memory this process may still take, and whether a proof fits in it.

NOT aware of what a proof does, only of how large the things are that it holds.
"""

import math
from pathlib import Path

from export.artifact import Artifact
from export.model import Model

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
FLOAT_BYTES = 4
LIBRARIES_BYTES = 10**9
"""torch, ONNX Runtime and what they work with."""
SESSION_FACTOR = 1.3
"""A session holds its files, and while it loads a part of them twice: rearranged, or unfolded."""


def free_bytes(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int | None:
    """The least of what the system and a container's limit leave; None where neither tells."""
    found = []
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    limit, used = cgroup / "memory.max", cgroup / "memory.current"
    if limit.exists() and used.exists() and (most := limit.read_text().strip()) != "max":
        found.append(max(0, int(most) - int(used.read_text())))
    return min(found, default=None)


def proof_bytes(model: Model, artifact: Artifact) -> int:
    """About what a proof takes: the session of the artifact, and of the reference, which is read
    tensor by tensor, the largest tensor."""
    files = sum(int(facts["bytes"]) for facts in artifact.manifest.files.values())
    largest = max(math.prod(shape) for shape in model.weights.shapes().values())
    return int(SESSION_FACTOR * files) + FLOAT_BYTES * largest + LIBRARIES_BYTES


def too_little(needed_bytes: int, free: int | None) -> str | None:
    """Why there is no room for so much, in one line; None where there is or nobody can tell."""
    if free is None or needed_bytes <= free:
        return None
    return (
        f"the proof needs about {needed_bytes / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are "
        f"free; export on a larger machine to prove it"
    )
