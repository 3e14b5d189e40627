"""Tells models of one name apart by their digests, so that their results are never mixed."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from bench.record import Record, Subject
from export.origin import difference, identity

Name = tuple[str, bool]
"""A model's name, and whether its weights are random."""


def namesakes(records: Sequence[Record]) -> set[Name]:
    """Returns the names that models of different files have in these records."""
    known: dict[Name, set[str]] = {}
    for record in records:
        known.setdefault(_name(record.case.subject), set()).add(_digest(record.case.subject))
    return {name for name, digests in known.items() if len(digests) > 1}


def told_apart(records: Sequence[Record], names: Collection[Name] | None = None) -> list[Record]:
    """Returns the records with NAME@DIGEST in place of these names (None: the namesakes').

    DIGEST is the start of export.origin.identity. Records that were told apart stay as they are.
    """
    several = namesakes(records) if names is None else names
    return [_renamed(r) if _name(r.case.subject) in several else r for r in records]


def other_weights(pairs: Iterable[tuple[Subject, Subject]]) -> list[str]:
    """Returns a line for each model whose files differ between two runs (base, new)."""
    found = {base.model: difference(base.origin, new.origin) for base, new in pairs}
    return [f"{model}: {differs}" for model, differs in found.items() if differs is not None]


def _renamed(record: Record) -> Record:
    subject = record.case.subject
    named = replace(subject, model=f"{subject.model}@{_digest(subject)[:7]}")
    return replace(record, case=replace(record.case, subject=named))


def _name(subject: Subject) -> Name:
    return subject.model, subject.synthetic


def _digest(subject: Subject) -> str:
    return identity(subject.origin)
