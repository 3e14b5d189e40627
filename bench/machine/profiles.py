"""Device profiles: what a class of devices gives to one process. Budgets, not measurements."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from runtimes import RUNTIMES
from runtimes.devices import MachineKind

GB = 10**9


@dataclass(frozen=True)
class Profile:
    """A class of devices."""

    threads: int
    """Cores that help: the fast ones where a chip has two kinds."""
    memory_bytes: int
    """What one process can use before the system kills it or begins to swap; on `device` cuda the
    memory of the GPU."""
    machine: MachineKind
    device: str = "cpu"

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Names of the runtimes that exist there; those that open artifacts come first."""
        rows = [(name, row) for name, row in RUNTIMES.items() if self.machine in row.machines]
        rows.sort(key=lambda item: item[1].takes)
        return tuple(name for name, row in rows if not row.hidden)


PROFILES: Mapping[str, Profile] = {
    # iOS ends an app of a 4 GB iPhone XS at 2040 MB (stackoverflow.com/questions/5887248, measured
    # by its authors). Android has no such number; half of the memory is what its foreground app
    # can count on. Two fast cores, as in every iPhone.
    "phone-4gb": Profile(2, 2 * GB, "phone"),
    # iPadOS 26.4 gives an app 3 GB of 8 (developer.apple.com/forums/thread/826325; 6 GB before).
    # Four cores: one prime and three big ones are usual on Android.
    "phone-8gb": Profile(4, 3 * GB, "phone"),
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
    """A row of PROFILES; cuda:N is cuda on the GPU number N."""
    return replace(PROFILES[row_of(name)], device=name) if ":" in name else PROFILES[name]


def row_of(name: str) -> str:
    """The row of PROFILES that a device's name stands for."""
    return name.partition(":")[0]
