"""A report's tables of what is right: fidelity, paired comparisons, bits, exceptions.

NOT aware of how a report is put together. Rows in, blocks out, none where nothing is known.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.analysis.paired import Change, interleaved, ratio
from bench.analysis.rows import Row, coarseness, names
from bench.analysis.stats import median, proportion
from bench.measure import Timing
from bench.record import Agreement
from bench.reporting import format as text
from bench.reporting.document import Block, Table, Text
from runtimes.proof.fidelity import Features


def fidelity(own: Sequence[Row]) -> list[Block]:
    """How far each row's next-token distributions are from the reference's."""
    compared = [
        (row, name, row.agreement, row.agreement.fidelity)
        for row, name in zip(own, names(own), strict=True)
        if row.agreement and row.agreement.fidelity
    ]
    if not compared:
        return []
    equal = [proportion(a.equal_answers, a.items) for _, _, a, _ in compared]
    columns = (text.shares([row.top1() for row, *_ in compared]), text.shares(equal))
    lines = [
        [
            *(name, row.runtime, f"{found.n:,}", text.interval(row.kld())),
            *map(text.significant, (found.kld_p99, found.kld_p999, found.max_kld)),
            *(top1, answers, f"{agreement.items:,}"),
        ]
        for (row, name, agreement, found), top1, answers in zip(compared, *columns, strict=True)
    ]
    header = [
        *("artifact", "runtime", "tokens", "mean KLD", "99 %", "99.9 %", "max", "top-1"),
        *("equal greedy answers", "answers"),
    ]
    references = text.listed(list(dict.fromkeys(a.reference for _, _, a, _ in compared)))
    sources = text.listed(list(dict.fromkeys(a.source for _, _, a, _ in compared if a.source)))
    explained = (
        f"KL(reference || artifact) in nats after the same tokens; reference: {references}"
        f"{f'; questions of {sources}' if sources else ''}."
    )
    others = sum(row.fidelity_samples - 1 for row, *_ in compared)
    if others:
        explained += f" {text.count(others, 'smaller or earlier sample')} of the runs left out."
    whole: list[Block] = [Text(explained), Table(header, lines, left=2)]
    return [*whole, *_halves([(row, name, agreement) for row, name, agreement, _ in compared])]


def _halves(compared: Sequence[tuple[Row, str, Agreement]]) -> list[Block]:
    """Which half hurts, and where answers part."""
    lines = []
    for row, name, found in compared:
        features, halves = found.features, (found.vision, found.decoder)
        lines.append(
            [
                *(name, row.runtime),
                *(f"{x:.6f}" if features else text.ABSENT for x in _cosines(features)),
                *(text.significant(half.mean_kld if half else None) for half in halves),
                *(text.percent(half.top1 if half else None) for half in halves),
                *(text.significant(x, 6) for x in (found.reference_perplexity, found.perplexity)),
                _parting(found),
            ]
        )
    if all(found.features is None and found.perplexity is None for *_, found in compared):
        return []
    header = [
        *("artifact", "runtime", "features: cosine", "least", "KLD, vision alone", "decoder alone"),
        *("top-1, vision alone", "decoder alone", "perplexity: reference", "artifact"),
        "first other token",
    ]
    explained = (
        "Vision alone: the artifact's image features before the reference's decoder; decoder "
        "alone: the reference's features before the artifact's. Perplexity is that of the "
        "reference's own answers; the first other token is the median place, from 1, among the "
        "answers that differ."
    )
    return [Table(*text.known(header, lines, left=2), left=2), Text(explained)]


def _cosines(features: Features | None) -> tuple[float, float]:
    return (features.cosine, features.min_cosine) if features else (0.0, 0.0)


def _parting(found: Agreement) -> str:
    places = [place + 1 for place in found.first_differences if place is not None]
    return text.significant(median(places)) if places else text.ABSENT


SPEEDS: Mapping[str, Callable[[Timing], float | None]] = {
    "first token": lambda timing: timing.first_token_s,
    "decode rate": lambda timing: timing.decode_tokens_per_s,
    "whole request": lambda timing: timing.total_s,
}


def speed(own: Sequence[Row]) -> list[Block]:
    """Each row against the reference (or what is most exact), round by round."""
    timed = [(row, name) for row, name in zip(own, names(own), strict=True) if row.workload]
    if len(timed) < 2:
        return []
    base, base_name = min(timed, key=lambda pair: coarseness(pair[0]))
    lines = []
    for row, name in timed:
        cells = [] if row is base else _speed(base, row)
        lines += [[name, row.runtime, *cells]] if cells else []
    if not lines:
        return []
    explained = (
        f"Relative to {base_name} on {base.runtime}, with 95 % intervals. Rounds that ran "
        "interleaved are compared in pairs: what slowed the machine for a while slowed both. "
        "Where the interval spans more than a factor of ten the change is called unsure: more "
        "rounds would narrow it."
    )
    header = ["artifact", "runtime", *SPEEDS, "processes", "paired"]
    return [Text(explained), Table(header, lines, left=2)]


def sizes(own: Sequence[Row]) -> list[Block]:
    """Parameters, share quantized and bytes of each component."""
    lines = []
    for name, row in artifacts(own).items():
        components = (row.subject.quantization or {}).get("components") or {}
        bits = text.significant(row.bits_per_weight)
        for component, part in components.items():
            lines.append([name, component, *_component(part), bits])
            bits = ""
    header = ["artifact", "component", "parameters", "quantized", "weights", "bits/weight in all"]
    return [Table(header, lines, left=2)] if lines else []


def exceptions(own: Sequence[Row]) -> list[Block]:
    """Tensors that fell back, by reason; one sentence where artifacts kept to their recipes."""
    lines, kept = [], []
    for name, row in artifacts(own).items():
        groups: dict[tuple[str, str, str], list[str]] = {}
        fallbacks = (row.subject.quantization or {}).get("fallbacks")
        for fallback in fallbacks or ():
            key = tuple(str(fallback.get(k, text.ABSENT)) for k in ("asked", "got", "reason"))
            groups.setdefault((key[0], key[1], key[2]), []).append(str(fallback.get("tensor")))
        for (asked, got, reason), tensors in groups.items():
            more = f" and {len(tensors) - 1} more" if len(tensors) > 1 else ""
            lines.append([name, f"`{tensors[0]}`{more}", asked, got, reason])
        kept += [name] if fallbacks is not None and not fallbacks else []
    header = ["artifact", "tensors", "asked", "got", "reason"]
    table: list[Block] = [Table(header, lines, left=5)] if lines else []
    return table + ([Text(f"None in {text.listed(kept)}.")] if kept else [])


def artifacts(own: Sequence[Row]) -> Mapping[str, Row]:
    """Rows of different artifacts by name: what is true of an artifact on any runtime."""
    found: dict[str | None, tuple[str, Row]] = {}
    for row, name in zip(own, names(own), strict=True):
        if row.subject.target is not None:
            found.setdefault(row.subject.sha256, (name, row))
    return dict(found.values())


def _speed(base: Row, row: Row) -> list[str]:
    if base.workload is None or row.workload is None:
        return []
    if base.workload.options != row.workload.options or base.machine != row.machine:
        return []
    pairs = interleaved(base.workload.started(), row.workload.started())
    changes = [
        ratio(base.workload.rounds(number), row.workload.rounds(number), pairs)
        for number in SPEEDS.values()
    ]
    n = next((str(change.n) for change in changes if change), text.ABSENT)
    return [*(_times(change) for change in changes), n, "yes" if pairs else "no"]


def _times(change: Change | None) -> str:
    """A relative change as a factor: × 1.25 [1.20, 1.31]."""
    if change is None:
        return text.ABSENT
    factors = [None if c is None else 1 + c for c in (change.value, change.low, change.high)]
    value, low, high = map(text.significant, factors)
    if change.low is None or change.high is None or change.unsure:
        return f"× {value}, unsure"
    return f"× {value} [{low}, {high}]"


def _component(part: Mapping[str, Any]) -> list[str]:
    parameters, quantized = part.get("parameters"), part.get("quantized_parameters")
    share = quantized / parameters if parameters and quantized is not None else None
    count = text.ABSENT if parameters is None else f"{parameters:,}"
    return [count, text.percent(share), text.megabytes(part.get("weight_bytes"))]
