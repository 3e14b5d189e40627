"""Builds two tables of a report: bytes by component, and tensors stored in an unintended type.

Both are made from Rows (results of one artifact on one runtime); [] without data.
"""

from collections.abc import Mapping, Sequence

from bench.analysis.rows import Row, names
from bench.reporting import fmt
from bench.reporting.document import Block, Table, Text
from export.manifest import Share


def sizes(rows: Sequence[Row]) -> list[Block]:
    """Builds a table of each component's parameters, quantized share and weights in MB."""
    lines = []
    for name, row in artifacts(rows).items():
        if row.subject.quantization is None:
            continue
        bits = fmt.significant(row.bits_per_weight)
        for component, share in row.subject.quantization.components.items():
            lines.append([name, component, *_component(share), bits])
            bits = ""
    header = ["artifact", "component", "parameters", "quantized", "weights", "bits/weight in all"]
    return [Table(header, lines, left=2)] if lines else []


def exceptions(rows: Sequence[Row]) -> list[Block]:
    """Builds a table of tensors that are not stored in the type their recipe asks for, by reason.

    A sentence below names the artifacts without such tensors.
    """
    lines, kept = [], []
    for name, row in artifacts(rows).items():
        if row.subject.quantization is None:
            continue
        groups: dict[tuple[str, str, str], list[str]] = {}
        for fallback in row.subject.quantization.fallbacks:
            key = (fallback.asked, fallback.got, fallback.reason)
            groups.setdefault(key, []).append(fallback.tensor)
        for (asked, got, reason), tensors in groups.items():
            more = f" and {len(tensors) - 1} more" if len(tensors) > 1 else ""
            lines.append([name, f"`{tensors[0]}`{more}", asked, got, reason])
        kept += [] if groups else [name]
    header = ["artifact", "tensors", "asked", "got", "reason"]
    table: list[Block] = [Table(header, lines, left=5)] if lines else []
    return table + ([Text(f"None in {fmt.listed(kept)}.")] if kept else [])


def artifacts(rows: Sequence[Row]) -> Mapping[str, Row]:
    """Returns the first Row of each different artifact, by a distinct name.

    It serves tables of what does not depend on the runtime. Checkpoints are left out.
    """
    by_sha256: dict[str | None, tuple[str, Row]] = {}
    for row, name in zip(rows, names(rows), strict=True):
        if row.subject.target is not None:
            by_sha256.setdefault(row.subject.sha256, (name, row))
    return dict(by_sha256.values())


def _component(share: Share) -> list[str]:
    quantized = share.quantized_parameters / share.parameters if share.parameters else None
    return [f"{share.parameters:,}", fmt.percent(quantized), fmt.megabytes(share.weight_bytes)]
