"""Builds a report's table of proofs: how each artifact compares with its original checkpoint."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.analysis.rows import Row
from bench.reporting import fmt
from bench.reporting.document import Block, Table, Text
from bench.reporting.sizes import artifacts
from export.proof import Proof, Skipped

EXPLAINED = (
    "Against the checkpoint on a few drawn pictures with fixed questions and answers, the same for "
    "every model. What a model was not trained for shows its rounding more than what it was."
)


@dataclass(frozen=True)
class Column:
    """A column of the table of proofs; it shows the attribute `figure` of the check named `check`.

    `title` heads the column; `shown` formats the attribute's value as the text of a cell.
    """

    title: str
    check: str
    figure: str
    shown: Callable[[Any], str]


COLUMNS = (
    Column("tensors explained", "tensors", "explained", "{:,}".format),
    Column("pixels and ids", "preprocessing", "verdict", str),
    Column("reference, largest error", "reference", "max_error", fmt.significant),
    Column("features, lowest cosine", "features", "min_cosine", "{:.6f}".format),
    Column("mean KLD, nats", "logits", "mean_kld", fmt.significant),
    Column("top-1", "logits", "top1", fmt.percent),
    Column("greedy tokens", "greedy", "of", "{:,}".format),
    Column("equal ones", "greedy", "equal", "{:,}".format),
    Column(
        "points and boxes, largest error",
        "places",
        "differences",
        lambda differences: fmt.significant(max(differences.values(), default=0.0)),
    ),
)


def proofs(rows: Sequence[Row]) -> list[Block]:
    """Builds a table with the verdict of each artifact's proof and a number from each check.

    A text below gives the reasons for skipped checks. [] without artifacts.
    """
    found = {name: row.subject.proof for name, row in artifacts(rows).items()}
    if not found:
        return []
    lines = [
        [name, _verdict(proof), *(_cell(proof, column) for column in COLUMNS)]
        for name, proof in found.items()
    ]
    titles = [column.title for column in COLUMNS]
    kept = fmt.known(["artifact", "verdict", *titles], lines, left=2)
    reasons = dict.fromkeys(reason for proof in found.values() for reason in _reasons(proof))
    explained = [Text(" ".join([EXPLAINED, *reasons]))] if any(found.values()) else []
    return [Table(*kept, left=2), *explained]


def _cell(proof: Proof | None, column: Column) -> str:
    check = None if proof is None else proof.checks.by_name().get(column.check)
    if check is None:
        return fmt.ABSENT
    return "skipped" if isinstance(check, Skipped) else column.shown(getattr(check, column.figure))


def _reasons(proof: Proof | None) -> list[str]:
    """Returns a sentence on why there is no verdict, and one for each check or part not made."""
    if proof is None:
        return []
    skipped = [
        f"Skipped {name}: {check.skipped}."
        for name, check in proof.checks.by_name().items()
        if isinstance(check, Skipped)
    ]
    preprocessing = proof.checks.preprocessing
    pixels = "" if isinstance(preprocessing, Skipped) else preprocessing.pixels
    return [
        *([f"No verdict: {proof.unjudged}."] if proof.unjudged else []),
        *skipped,
        *([f"Pixels: {pixels}."] if pixels else []),
    ]


def _verdict(proof: Proof | None) -> str:
    if proof is None:
        return "not proven"
    if proof.passed is None:
        return "no verdict"
    return "passed" if proof.passed else f"failed: {'; '.join(proof.failures)}"
