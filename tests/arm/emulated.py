"""Runs aarch64 Python in qemu, as one of two CPUs; `make test-arm` installs what it takes."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from quiet import SETTINGS

ROOT = Path(__file__).parents[2]
INSTALLED = ROOT / "build" / "arm"
PYTHON = "usr/bin/python3.13"
COMMON = "fp asimd aes pmull sha1 sha2 crc32"
# The kernel's names of the bits of AT_HWCAP, the lowest first (Linux, asm/hwcap.h of arm64).
HWCAPS = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma "
    "lrcpc dcpop sha3 sm3 sm4 asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg"
)
# A line of qemu's log of the code that it translated: address and instruction.
CODE = re.compile(r"0x[0-9a-f]+: +([0-9a-f]{8})\b")
# SDOT and UDOT, by vector and by element: bits that are fixed, and their values (Arm ARM, C7.2).
DOT_PRODUCTS = ((0x9FE0FC00, 0x0E809400), (0x9FC0F400, 0x0F80E000))


@dataclass(frozen=True)
class Cpu:
    """A CPU that qemu knows.

    Libraries take its features from the auxiliary vector, which qemu fills, or from /proc/cpuinfo,
    which would be this machine's; so the folder that qemu shows as / has one that says the same.
    """

    name: str
    part: str
    features: str

    @property
    def cpuinfo(self) -> str:
        return (
            f"processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: {self.features}\n"
            f"CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\n"
            f"CPU part\t: {self.part}\nCPU revision\t: 0\n\n"
        )


A72 = Cpu("cortex-a72", "0xd08", f"{COMMON} cpuid")
A76 = Cpu(
    "cortex-a76",
    "0xd0b",
    f"{COMMON} atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
)


class Machine:
    """A made-up machine with one such CPU; `folder` gets what qemu shows as /."""

    def __init__(self, cpu: Cpu, folder: Path) -> None:
        self._cpu, self._root = cpu, folder / cpu.name
        (self._root / "proc").mkdir(parents=True)
        (self._root / "proc" / "cpuinfo").write_text(cpu.cpuinfo)
        for name in ("lib", "usr"):
            (self._root / name).symlink_to(INSTALLED / "debian" / name)

    def run(self, *words: str) -> str:
        """Returns what Python prints when it is run with these words."""
        with self._started(words) as process:
            output, errors = process.communicate()
        assert process.returncode == 0, errors[-2000:]
        return output

    def dot_products(self, *words: str) -> int:
        """Number of different dot product instructions that a run translates, to execute them."""
        count = lines = 0
        with self._started(words, "-d", "in_asm") as process:
            assert process.stderr is not None
            for line in process.stderr:
                if found := CODE.match(line):
                    lines += 1
                    count += _is_dot_product(int(found[1], 16))
        assert process.returncode == 0
        assert lines, "qemu did not log code in the form that is expected here"
        return count

    @contextmanager
    def _started(self, words: Sequence[str], *options: str) -> Iterator[subprocess.Popen[str]]:
        qemu = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
        assert qemu is not None
        paths = (ROOT, INSTALLED / "wheels", INSTALLED / "llama")
        environment = {
            **SETTINGS,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "PYTHONPYCACHEPREFIX": str(INSTALLED / "bytecode"),
        }
        command = [qemu, "-cpu", self._cpu.name, "-L", str(self._root), *options]
        command += [str(self._root / PYTHON), *words]
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            yield process


def _is_dot_product(instruction: int) -> bool:
    return any(instruction & mask == value for mask, value in DOT_PRODUCTS)
