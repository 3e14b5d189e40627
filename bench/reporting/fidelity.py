"""Builds a report's tables of how next-token distributions differ from the reference model's."""

from collections.abc import Sequence

from bench.analysis.rows import Row, names
from bench.analysis.stats import median, proportion
from bench.record import Agreement
from bench.reporting import fmt
from bench.reporting.document import Block, Table, Text
from export.proof import Features


def fidelity(rows: Sequence[Row]) -> list[Block]:
    """Builds a table of KL divergence and agreement with the reference model for each artifact.

    A second table has the vision encoder and the decoder, each alone. [] without data.
    """
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
        *("artifact", "runtime", "tokens", "mean KLD", "99 %", "99.9 %", "max", "top-1 agreement"),
        *("equal greedy answers", "answers"),
    ]
    references = fmt.listed(list(dict.fromkeys(_reference(a) for _, _, a, _ in compared)))
    sources = fmt.listed(list(dict.fromkeys(a.source for _, _, a, _ in compared if a.source)))
    explained = (
        "KL divergence KL(reference || artifact) in nats, after the same preceding tokens. "
        f"Reference: {references}{f'; questions: {sources}' if sources else ''}."
    )
    others = sum(row.fidelity_samples - 1 for row, *_ in compared)
    if others:
        explained += f" Not shown: {fmt.count(others, 'smaller or earlier sample')}."
    whole: list[Block] = [Text(explained), Table(header, lines, left=2)]
    return [*whole, *_halves([(row, name, agreement) for row, name, agreement, _ in compared])]


def _reference(agreement: Agreement) -> str:
    """Names the reference; says so if it is not what the artifact was exported from."""
    if agreement.other is None:
        return agreement.reference
    return f"{agreement.reference}, not the model it was exported from ({agreement.other})"


def _halves(compared: Sequence[tuple[Row, str, Agreement]]) -> list[Block]:
    """Builds a table of the divergence due to the vision encoder alone and to the decoder alone."""
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
                _first_diverging(found),
            ]
        )
    if all(found.features is None and found.perplexity is None for *_, found in compared):
        return []
    header = [
        *(
            "artifact",
            "runtime",
            "features: mean cosine",
            "lowest",
            "KLD, vision only",
            "decoder only",
        ),
        *("top-1, vision only", "decoder only", "perplexity: reference", "artifact"),
        "first diverging token",
    ]
    explained = (
        "Vision only: the artifact's image features with the reference's decoder. Decoder only: "
        "the reference's image features with the artifact's decoder. Perplexity is that of the "
        "reference's answers. The first diverging token is the median position, from 1, among the "
        "answers that differ."
    )
    return [Table(*fmt.known(header, lines, left=2), left=2), Text(explained)]


def _cosines(features: Features | None) -> tuple[float, float]:
    return (features.cosine, features.min_cosine) if features else (0.0, 0.0)


def _first_diverging(agreement: Agreement) -> str:
    positions = [index + 1 for index in agreement.first_differences if index is not None]
    return fmt.significant(median(positions)) if positions else fmt.ABSENT
