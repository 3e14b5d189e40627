"""Rows put the same request of all subjects side by side."""

from dataclasses import replace

from bench.record import Record
from bench.reporting.summary import rows
from tests.bench.made import latency, subject


def asked_as_text(records: list[Record]) -> list[Record]:
    return [
        replace(r, case=replace(r.case, options=replace(r.case.options, prompt="text")))
        for r in records
    ]


def test_the_request_that_most_rows_answered_comes_first() -> None:
    ours, peer = subject("int4", 1.0), subject("int8", 2.0)
    both = latency(ours, "onnxruntime", 1.0, 10**8)
    records = [
        *both,
        *asked_as_text(both),
        *asked_as_text(latency(peer, "onnxruntime", 1.0, 10**8)),
    ]
    first = [row.workload.options.prompt for row in rows(records) if row.workload]
    assert first == ["text", "text"]
    alone = rows([*asked_as_text(both), *both])[0]
    assert [w.options.prompt for w in alone.workloads] == ["image", "text"]
