"""What each artifact's proof found: a verdict, and the figure of each check that tells most.

NOT aware of how anything is proven: a check without a column of its own is shown as it is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.analysis.rows import Row
from bench.reporting import fmt
from bench.reporting.document import Block, Table, Text
from bench.reporting.sizes import artifacts

Proof = Mapping[str, Any]
SKIPPED = "skipped"
EXPLAINED = (
    "Against the checkpoint on a few drawn pictures with fixed questions and answers, the same for "
    "every model. What a model was not trained for shows its rounding more than what it was."
)


@dataclass(frozen=True)
class Column:
    """A figure of one check, and how it is shown where it is a number."""

    title: str
    check: str
    figure: str
    shown: Callable[[float], str]


COLUMNS = (
    Column("tensors explained", "tensors", "explained", "{:,}".format),
    Column("pixels and ids", "preprocessing", "equal", lambda same: "equal" if same else "unequal"),
    Column("features, lowest cosine", "features", "min_cosine", "{:.6f}".format),
    Column("mean KLD, nats", "logits", "mean_kld", fmt.significant),
    Column("top-1", "logits", "top1", fmt.percent),
    Column("greedy tokens", "greedy", "of", "{:,}".format),
    Column("equal ones", "greedy", "equal", "{:,}".format),
)


def proofs(rows: Sequence[Row]) -> list[Block]:
    """A line for each artifact, then what was skipped, and why."""
    found = {name: row.subject.proof for name, row in artifacts(rows).items()}
    if not found:
        return []
    others = list(dict.fromkeys(n for proof in found.values() for n in _unnamed(proof)))
    titles = [column.title for column in COLUMNS]
    lines = [
        [name, _verdict(proof), *(_cell(proof, c) for c in COLUMNS), *_rest(proof, others)]
        for name, proof in found.items()
    ]
    kept = fmt.known(["artifact", "verdict", *titles, *others], lines, left=2)
    reasons = dict.fromkeys(reason for proof in found.values() for reason in _reasons(proof))
    explained = [Text(" ".join([EXPLAINED, *reasons]))] if any(found.values()) else []
    return [Table(*kept, left=2), *explained]


def _cell(proof: Proof | None, column: Column) -> str:
    check = _checks(proof).get(column.check)
    if not isinstance(check, Mapping):
        return fmt.ABSENT
    if SKIPPED in check:
        return SKIPPED
    value = check.get(column.figure)
    return column.shown(value) if isinstance(value, int | float) else fmt.plain(value)


def _rest(proof: Proof | None, names: Sequence[str]) -> list[str]:
    checks = _checks(proof)
    return [fmt.plain(checks[n]).replace("_", " ") if n in checks else fmt.ABSENT for n in names]


def _unnamed(proof: Proof | None) -> list[str]:
    """Checks of which no column has a figure."""
    known = {
        column.check
        for column in COLUMNS
        for check in (_checks(proof).get(column.check),)
        if isinstance(check, Mapping) and (column.figure in check or SKIPPED in check)
    }
    return [name for name in _checks(proof) if name not in known]


def _reasons(proof: Proof | None) -> list[str]:
    """Why there is no verdict, why checks were skipped: a sentence each."""
    unjudged = (proof or {}).get("unjudged")
    return [f"No verdict: {unjudged}."] * bool(unjudged) + [
        f"Skipped {name}: {check[SKIPPED]}."
        for name, check in _checks(proof).items()
        if isinstance(check, Mapping) and SKIPPED in check
    ]


def _checks(proof: Proof | None) -> Mapping[str, Any]:
    checks = (proof or {}).get("checks")
    return checks if isinstance(checks, Mapping) else {}


def _verdict(proof: Proof | None) -> str:
    if proof is None:
        return "not proven"
    if proof.get("unjudged"):
        return "no verdict"
    if proof.get("passed"):
        return "passed"
    reasons = [str(failure) for failure in proof.get("failures") or ()]
    return f"failed: {'; '.join(reasons)}" if reasons else "failed"
