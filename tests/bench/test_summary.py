"""Rows put the same request of all subjects side by side; commands make them again."""

from dataclasses import replace

from bench.analysis.rows import rows
from bench.record import Record
from bench.reporting.reproduce import commands
from tests.bench.made import latency, subject


def asked_as_text(records: list[Record]) -> list[Record]:
    return [
        replace(r, case=replace(r.case, options=replace(r.case.options, prompt="text")))
        for r in records
    ]


def test_the_most_frequent_request_comes_first() -> None:
    ours, peer = subject("int4", 1.0), subject("int8", 2.0)
    both = latency(ours, "onnxruntime", 1.0, 10**8)
    records = [
        *both,
        *asked_as_text(both),
        *asked_as_text(latency(peer, "onnxruntime", 1.0, 10**8)),
    ]
    first = [row.latency.options.prompt for row in rows(records) if row.latency]
    assert first == ["text", "text"]
    alone = rows([*asked_as_text(both), *both])[0]
    assert [w.options.prompt for w in alone.latencies] == ["image", "text"]


def test_peers_and_random_checkpoints_have_their_own_commands() -> None:
    peer = replace(subject("int4", 1.0), target="genai", synthetic=True)
    checkpoint = replace(subject(None, 2.0), synthetic=True)
    records = [*latency(peer, "genai", 1.0, 10**8), *latency(checkpoint, "reference", 1.0, 10**8)]
    lines = commands(records).splitlines()
    assert lines[0] == f"bench peers {peer.model} --recipe int4 --weights synthetic"
    assert "--weights synthetic" in lines[1]
