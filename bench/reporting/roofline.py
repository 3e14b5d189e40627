"""Builds a report's roofline table: the share of the machine's limits that each artifact reaches.

Decoding is compared with memory bandwidth, images and prompts with arithmetic (Williams, Waterman
and Patterson 2009, Roofline).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.analysis.rows import Row, names
from bench.machine.ceilings import Ceilings
from bench.machine.environment import Environment
from bench.machine.gpu_ceilings import GpuCeilings
from bench.reporting import fmt
from bench.reporting.document import Block, Table, Text

# Recipes whose matrix products use 8-bit integers on a CPU; those of others use float32.
INTEGER_RECIPES = ("int8", "int4")


@dataclass(frozen=True)
class Reached:
    """Rates that an artifact reached in each step of a request, and their shares of the limits.

    `decode`, `image` and `prefill` are those shares: 1.0 is the machine's measured limit, of memory
    bandwidth for decode, of arithmetic for the others. None: not known.
    """

    decode_bytes_per_s: float | None
    decode: float | None
    image_flops_per_s: float | None
    image: float | None
    prefill_flops_per_s: float | None
    prefill: float | None


def reached(row: Row) -> Reached | None:
    """Computes rates from the median times of an artifact's requests, and their shares of limits.

    None if latency was not measured or the operations of the network were not counted.
    """
    latency = row.latency
    if latency is None or latency.work is None:
        return None
    work, machine = latency.work, latency.records[0].environment
    rate = row.decode_tokens_per_s()
    read = rate.value * work.decode_bytes if rate and work.decode_bytes else None
    image = _rate(work.image_flops, latency.middle(lambda timing: timing.image_s))
    prefill = _rate(work.prefill_flops, latency.middle(lambda timing: timing.prefill_s))
    arithmetic, reading = limits(row, machine)
    return Reached(
        *(read, _share(read, reading)),
        *(image, _share(image, arithmetic)),
        *(prefill, _share(prefill, arithmetic)),
    )


def limits(row: Row, machine: Environment) -> tuple[float | None, float | None]:
    """Returns the machine's measured limits: arithmetic operations and memory bytes, per second.

    The operations are of the number type that the row computes in (8-bit integers, float32, …).
    None: not measured.
    """
    if row.device != "cpu":
        gpu = machine.gpu_ceilings
        if gpu is None:
            return None, None
        in_bfloat = row.subject.target is None
        return gpu.bf16_flops_per_s if in_bfloat else gpu.fp16_flops_per_s, gpu.copy_bytes_per_s
    cpu = machine.ceilings
    if cpu is None:
        return None, None
    integer = row.subject.used is not None and row.subject.used.base in INTEGER_RECIPES
    return cpu.int8_ops_per_s if integer else cpu.fp32_flops_per_s, cpu.read_bytes_per_s


def roofline(rows: Sequence[Row]) -> list[Block]:
    """Builds a table of the rates that artifacts reach and their shares of the machine's limits."""
    lines = []
    for row, name in zip(rows, names(rows), strict=True):
        rates = reached(row)
        if rates is not None:
            cells = (
                *(_giga(rates.decode_bytes_per_s, "B/s"), fmt.percent(rates.decode)),
                *(_giga(rates.image_flops_per_s, "op/s"), fmt.percent(rates.image)),
                *(_giga(rates.prefill_flops_per_s, "op/s"), fmt.percent(rates.prefill)),
            )
            lines.append([name, row.runtime, *cells])
    if not lines:
        return []
    steps = [("decode reads", "of bandwidth"), ("image", "of peak"), ("prefill", "of peak")]
    header = ["artifact", "runtime", *(f"{a}{b}" for a, c in steps for b in ("", f", {c}"))]
    header_and_lines = fmt.known(header, lines, left=2)
    return [Table(*header_and_lines, left=2), Text(_explained(rows))]


def _explained(rows: Sequence[Row]) -> str:
    machines = [(row, row.latency.records[0].environment) for row in rows if row.latency]
    integers = " and ".join(INTEGER_RECIPES)
    parts = [
        "Every decoded token reads the decoder's weights and the cache, so decoding is compared "
        "with memory bandwidth; images and prompts are compared with arithmetic."
    ]
    cpu = next((m.ceilings for row, m in machines if row.device == "cpu" and m.ceilings), None)
    gpu = next((m.gpu_ceilings for row, m in machines if m.gpu_ceilings), None)
    if any(row.device == "cpu" for row, _ in machines):
        parts.append(
            f"On the CPU that is 8-bit integer arithmetic for {integers}, float32 for the rest. "
            + (_cpu_limits(cpu) if cpu else "This machine's ceilings were not measured.")
        )
    if any(row.device != "cpu" for row, _ in machines):
        parts.append(
            "On a GPU it is float16 for artifacts of any recipe, bfloat16 for checkpoints. "
            + (_gpu_limits(gpu) if gpu else "The GPU's ceilings were not measured.")
        )
    return " ".join(parts)


def _cpu_limits(ceilings: Ceilings) -> str:
    return (
        f"Ceilings measured here: reading {_giga(ceilings.read_bytes_per_s, 'B/s')}, "
        f"float32 {_giga(ceilings.fp32_flops_per_s, 'op/s')}, "
        f"8-bit {_giga(ceilings.int8_ops_per_s, 'op/s')}."
    )


def _gpu_limits(ceilings: GpuCeilings) -> str:
    if ceilings.problem is not None:
        return f"The GPU's ceilings are not known: {ceilings.problem}."
    return (
        f"Measured on this GPU: copying {_giga(ceilings.copy_bytes_per_s, 'B/s')} (read and "
        f"written), float16 {_giga(ceilings.fp16_flops_per_s, 'op/s')}, "
        f"bfloat16 {_giga(ceilings.bf16_flops_per_s, 'op/s')}."
    )


def _rate(work: int | None, seconds: float | None) -> float | None:
    return work / seconds if work and seconds else None


def _share(rate: float | None, limit: float | None) -> float | None:
    return rate / limit if rate is not None and limit else None


def _giga(rate: float | None, unit: str) -> str:
    return fmt.ABSENT if rate is None else f"{fmt.significant(rate / 1e9)} G{unit}"
