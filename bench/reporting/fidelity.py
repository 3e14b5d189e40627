"""A report's tables of what is right: fidelity, paired comparisons, bits, exceptions.

NOT aware of how a report is put together. Rows in, blocks out, none where nothing is known.
"""

from collections.abc import Sequence

from bench.analysis.rows import Row, names
from bench.analysis.stats import median, proportion
from bench.record import Agreement
from bench.reporting import fmt
from bench.reporting.document import Block, Table, Text
from runtimes.proof.fidelity import Features


def fidelity(rows: Sequence[Row]) -> list[Block]:
    """How far each row's next-token distributions are from the reference's."""
    compared = [
        (row, name, row.agreement, row.agreement.fidelity)
        for row, name in zip(rows, names(rows), strict=True)
        if row.agreement and row.agreement.fidelity
    ]
    if not compared:
        return []
    equal = [proportion(a.equal_answers, a.items) for _, _, a, _ in compared]
    columns = (fmt.shares([row.top1() for row, *_ in compared]), fmt.shares(equal))
    lines = [
        [
            *(name, row.runtime, f"{found.n:,}", fmt.interval(row.kld())),
            *map(fmt.significant, (found.kld_p99, found.kld_p999, found.max_kld)),
            *(top1, answers, f"{agreement.items:,}"),
        ]
        for (row, name, agreement, found), top1, answers in zip(compared, *columns, strict=True)
    ]
    header = [
        *("artifact", "runtime", "tokens", "mean KLD", "99 %", "99.9 %", "max", "top-1"),
        *("equal greedy answers", "answers"),
    ]
    references = fmt.listed(list(dict.fromkeys(a.reference for _, _, a, _ in compared)))
    sources = fmt.listed(list(dict.fromkeys(a.source for _, _, a, _ in compared if a.source)))
    explained = (
        f"KL(reference || artifact) in nats after the same tokens; reference: {references}"
        f"{f'; questions of {sources}' if sources else ''}."
    )
    others = sum(row.fidelity_samples - 1 for row, *_ in compared)
    if others:
        explained += f" {fmt.count(others, 'smaller or earlier sample')} of the runs left out."
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
                *(f"{x:.6f}" if features else fmt.ABSENT for x in _cosines(features)),
                *(fmt.significant(half.mean_kld if half else None) for half in halves),
                *(fmt.percent(half.top1 if half else None) for half in halves),
                *(fmt.significant(x, 6) for x in (found.reference_perplexity, found.perplexity)),
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
    return [Table(*fmt.known(header, lines, left=2), left=2), Text(explained)]


def _cosines(features: Features | None) -> tuple[float, float]:
    return (features.cosine, features.min_cosine) if features else (0.0, 0.0)


def _parting(found: Agreement) -> str:
    places = [place + 1 for place in found.first_differences if place is not None]
    return fmt.significant(median(places)) if places else fmt.ABSENT
