"""Device profiles: how many threads and how much memory a process gets on a class of devices.

They are assumptions, with their sources, not measurements.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from runtimes import RUNTIMES
from runtimes.devices import MachineKind

GB = 10**9


@dataclass(frozen=True)
class Profile:
    """A class of devices, such as phones with 4 GB: the limits of a job that is measured for it.

    `machine` decides which runtimes exist there; `device` is where they compute: cpu, cuda, cuda:N.
    """

    threads: int
    """Number of CPU threads: as many as there are cores, only fast ones if there are two kinds."""
    memory_bytes: int
    """Memory that a process can use before the system kills it or begins to swap; with `device`
    cuda, GPU memory."""
    machine: MachineKind
    device: str = "cpu"

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Names of the runtimes that exist there, without hidden ones.

        Those that open artifacts come before those that open checkpoints.
        """
        rows = [(name, row) for name, row in RUNTIMES.items() if self.machine in row.machines]
        rows.sort(key=lambda item: item[1].takes)
        return tuple(name for name, row in rows if not row.hidden)


PROFILES: Mapping[str, Profile] = {
    # iOS ends an app of an iPhone 12 mini at 2.1 GB (github.com/allenai/OLMoE.swift/pull/38), of an
    # iPhone XS at 2040 MB (stackoverflow.com/questions/5887248). Two fast cores, as in every
    # iPhone. Android had no such number until version 17, which limits what a process has written
    # or swapped, but not mapped files, by the device's memory (android-developers.googleblog.com,
    # "Prioritizing Memory Efficiency", 2026); the limits are not published, so half is assumed.
    "phone-4gb": Profile(2, 2 * GB, "phone"),
    # An iPhone 15 Pro gives an app 3 GB (github.com/introlab/rtabmap/pull/1446), as iPadOS 26.4
    # does on 8 GB (developer.apple.com/forums/thread/826325), and an iPhone 13 Pro of 6 GB 3.1 GB
    # (github.com/a-ghorbani/pocketpal-ai/pull/651). Four cores: one prime and three big ones are
    # usual on Android.
    "phone-8gb": Profile(4, 3 * GB, "phone"),
    # The same iPhone 15 Pro, for an app with the entitlement increased-memory-limit.
    "iphone-8gb-entitled": Profile(2, 6 * GB, "phone"),
    # The 8 GB board with four Cortex-A76; Raspberry Pi OS with its desktop takes under 1 GB, and
    # 1 GB is left for the rest.
    "raspberry-pi-5": Profile(4, 6 * GB, "board"),
    # Half: the system and an open browser take the other half.
    "laptop-8gb": Profile(4, 4 * GB, "computer"),
    # 16 GB, three quarters of it free.
    "desktop": Profile(8, 12 * GB, "computer"),
    # A GPU of 8 GB, of which a screen and the CUDA context itself take about 1 GB.
    "cuda": Profile(8, 7 * GB, "computer", device="cuda"),
}


def profile_of(name: str) -> Profile:
    """Return a profile of PROFILES by its name; for cuda:N it is "cuda" with `device` cuda:N."""
    return replace(PROFILES[row_of(name)], device=name) if ":" in name else PROFILES[name]


def row_of(name: str) -> str:
    """Return the key of PROFILES for a name that may end with a GPU's number: cuda:1 -> cuda."""
    return name.partition(":")[0]
