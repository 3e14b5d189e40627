"""Rows put the same request of all subjects side by side; commands make them again."""

from dataclasses import replace

from bench.analysis.rows import rows
from bench.record import Record
from bench.reporting import fmt
from bench.reporting.document import Table
from bench.reporting.reproduce import commands
from bench.reporting.summary import BUSY, summary
from runtimes.threads import Threads
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


def beside(records: list[Record]) -> list[Record]:
    """The same requests beside a busy process, with one thread."""
    return [
        replace(
            r,
            case=replace(r.case, options=replace(r.case.options, contended=True)),
            outcome=replace(r.outcome, threads=Threads(1, "busy")),
        )
        for r in records
    ]


def test_what_was_measured_beside_a_busy_process_is_a_column() -> None:
    alone = latency(subject("int4", 1.0), "onnxruntime", 1.0, 10**8)
    contended = beside(latency(subject("int4", 1.0), "onnxruntime", 4.0, 10**8))
    (row,) = rows([*contended, *alone])
    table = summary([row])[0]
    assert isinstance(table, Table)
    shown = dict(zip(table.header, table.rows[0], strict=True))
    rate, slower = row.decode_tokens_per_s(), row.contended_tokens_per_s()
    assert rate is not None
    assert slower is not None
    assert rate.value > slower.value
    assert shown["decode, tokens/s"] == fmt.interval(rate)
    assert shown[BUSY] == fmt.interval(slower)
    assert row.contended is not None
    assert row.contended.threads == {1}


def test_one_command_measures_both_conditions() -> None:
    alone = latency(subject("int4", 1.0), "onnxruntime", 1.0, 10**8)
    runs = [line for line in commands([*alone, *beside(alone)]).splitlines() if "bench run" in line]
    assert len(runs) == 1
    assert " --contended " in runs[0]
    assert f"--threads {alone[0].case.threads}" in runs[0]
    assert "--threads" not in commands(beside(alone))


def test_peers_and_random_checkpoints_have_their_own_commands() -> None:
    peer = replace(subject("int4", 1.0), target="genai", synthetic=True)
    checkpoint = replace(subject(None, 2.0), synthetic=True)
    records = [*latency(peer, "genai", 1.0, 10**8), *latency(checkpoint, "reference", 1.0, 10**8)]
    lines = commands(records).splitlines()
    assert lines[0] == f"bench peers {peer.model} --recipe int4 --weights synthetic"
    assert "--weights synthetic" in lines[1]
