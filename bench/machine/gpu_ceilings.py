"""Measures a GPU's ceilings with torch: the most bytes copied and 16-bit operations per second.

`python -m bench.machine.gpu_ceilings cuda:0` prints them as JSON.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

from bench.machine.ceilings import best_s
from runtimes import RUNTIMES

COPIED_BYTES = 1 << 30  # larger than any card's caches; read once and written once
SIDE = 8192
AT_ONCE = 4  # launches per synchronization, so that launching does not count


@dataclass(frozen=True)
class GpuCeilings:
    """A GPU's highest measured rates, each the best of several tries.

    `problem` says why nothing could be measured, and then all rates are None; None: no problem.
    """

    copy_bytes_per_s: float | None = None
    """Bytes read plus bytes written per second, of a copy within the GPU's memory."""
    fp16_flops_per_s: float | None = None
    """Rate of a product of square matrices; a multiply-add counts as two operations."""
    bf16_flops_per_s: float | None = None
    problem: str | None = None


def measure_gpu_ceilings(device: str) -> GpuCeilings:
    """Measure the ceilings of a GPU such as "cuda:0", which takes about three seconds.

    Without torch or the GPU, the result has only `problem`.
    """
    reason = RUNTIMES["reference"].unavailable(device=device)
    if reason is not None:
        return GpuCeilings(problem=f"they are measured with torch, and {reason}")
    import torch

    def rate(work: int, attempt: Callable[[], object]) -> float:
        def several() -> None:
            for _ in range(AT_ONCE):
                attempt()
            torch.cuda.synchronize(device)

        return AT_ONCE * work / best_s(several)

    def product(kind: torch.dtype) -> float:
        a, b = (torch.randn(SIDE, SIDE, dtype=kind, device=device) for _ in range(2))
        out = torch.empty_like(a)
        return rate(2 * SIDE**3, lambda: torch.mm(a, b, out=out))

    def copied() -> float:
        source = torch.zeros(COPIED_BYTES, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        return rate(2 * COPIED_BYTES, lambda: target.copy_(source))

    return GpuCeilings(copied(), product(torch.float16), product(torch.bfloat16))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(measure_gpu_ceilings(sys.argv[1]))) + "\n")
