"""What share of the machine's own limits a row reaches (Williams, Waterman and Patterson 2009).

Decoding is held against reading, images and prompts against arithmetic. NOT aware of how work or
ceilings were found.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.machine.ceilings import Ceilings
from bench.reporting import format as text
from bench.reporting.document import Block, Table, Text
from bench.reporting.summary import Row, names
from export.quantize.recipe import base

# Recipes whose matrix products run on 8-bit integers; the others' run on float32.
INTEGER_RECIPES = ("int8", "int4")


@dataclass(frozen=True)
class Reached:
    """Per second, and as a share of the ceiling; None where one of them is not known."""

    decode_bytes_per_s: float | None
    decode: float | None
    image_flops_per_s: float | None
    image: float | None
    prefill_flops_per_s: float | None
    prefill: float | None


def reached(row: Row) -> Reached | None:
    """Medians of the row's first workload against its own run's ceilings."""
    workload = row.workload
    if workload is None or workload.work is None:
        return None
    work, ceilings = workload.work, workload.records[0].environment.ceilings
    rate = row.decode_tokens_per_s()
    read = rate.value * work.decode_bytes if rate and work.decode_bytes else None
    image = _rate(work.image_flops, workload.middle(lambda timing: timing.image_s))
    prefill = _rate(work.prefill_flops, workload.middle(lambda timing: timing.prefill_s))
    arithmetic, reading = ceiling(row, ceilings), ceilings.read_bytes_per_s if ceilings else None
    return Reached(
        *(read, _share(read, reading)),
        *(image, _share(image, arithmetic)),
        *(prefill, _share(prefill, arithmetic)),
    )


def ceiling(row: Row, ceilings: Ceilings | None) -> float | None:
    """Operations per second of the kind that the row's recipe computes with."""
    if ceilings is None:
        return None
    integer = base(row.subject.recipe or "") in INTEGER_RECIPES
    return ceilings.int8_ops_per_s if integer else ceilings.fp32_flops_per_s


def roofline(own: Sequence[Row]) -> list[Block]:
    """Rates of each step and the shares of the ceilings that they are."""
    lines = []
    for row, name in zip(own, names(own), strict=True):
        found = reached(row)
        if found is not None:
            cells = (
                *(_giga(found.decode_bytes_per_s, "B/s"), text.percent(found.decode)),
                *(_giga(found.image_flops_per_s, "op/s"), text.percent(found.image)),
                *(_giga(found.prefill_flops_per_s, "op/s"), text.percent(found.prefill)),
            )
            lines.append([name, row.runtime, *cells])
    if not lines:
        return []
    steps = [("decode reads", "of bandwidth"), ("image", "of peak"), ("prefill", "of peak")]
    header = ["artifact", "runtime", *(f"{a}{b}" for a, c in steps for b in ("", f", {c}"))]
    header_and_lines = text.known(header, lines, left=2)
    return [Table(*header_and_lines, left=2), Text(_explained(own))]


def _explained(own: Sequence[Row]) -> str:
    found = (row.workload.records[0].environment.ceilings for row in own if row.workload)
    ceilings = next((c for c in found if c), None)
    integers = " and ".join(INTEGER_RECIPES)
    rule = (
        f"Decoding must read the decoder's weights and the cache for every token; {integers} are "
        "held against 8-bit integer arithmetic, the rest against float32."
    )
    if ceilings is None:
        return f"{rule} This machine's ceilings were not measured."
    limits = (
        f"reading {_giga(ceilings.read_bytes_per_s, 'B/s')}, "
        f"float32 {_giga(ceilings.fp32_flops_per_s, 'op/s')}, "
        f"8-bit {_giga(ceilings.int8_ops_per_s, 'op/s')}"
    )
    return f"{rule} Ceilings measured here: {limits}."


def _rate(work: int | None, seconds: float | None) -> float | None:
    return work / seconds if work and seconds else None


def _share(rate: float | None, limit: float | None) -> float | None:
    return rate / limit if rate is not None and limit else None


def _giga(rate: float | None, unit: str) -> str:
    return text.ABSENT if rate is None else f"{text.significant(rate / 1e9)} G{unit}"
