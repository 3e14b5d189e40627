"""Reports are pure: the same records give the same bytes, kept in golden/."""

import os
from dataclasses import replace
from pathlib import Path

from bench.record import Record
from bench.report import Figure, report
from bench.summary import names, rows

GOLDEN = Path(__file__).parent / "golden" / "report.md"


def test_report_is_the_golden_file(records: list[Record]) -> None:
    found = report(records, [Figure("report-decode.svg", "decode rate", records[0].case.subject)])
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(found, encoding="utf-8")
    assert found == GOLDEN.read_text(encoding="utf-8"), "UPDATE_GOLDEN=1 writes the new one"


def test_report_of_failures_alone_says_so(records: list[Record]) -> None:
    failed = [record for record in records if record.status == "failed"]
    found = report(failed)
    assert "Nothing was measured" in found
    assert "killed by SIGKILL" in found


def test_report_of_nothing_is_still_a_report() -> None:
    assert report([]).startswith("# PocketVLM benchmark")


def test_random_weights_are_marked_and_have_no_accuracy(records: list[Record]) -> None:
    found = report([r for r in records if r.case.subject.synthetic and r.status == "ok"])
    assert "(random weights)" in found
    assert "%" not in found.split("### Phases")[0].replace("95 %", "")


def test_machines_are_never_pooled(records: list[Record]) -> None:
    own = [r for r in records if r.case.task == "latency" and r.case.subject.recipe == "int8"]
    other = [replace(r, environment=replace(r.environment, cores=64)) for r in own]
    shown = rows([*own, *other])
    assert [row.machine for row in shown] == [0, 1]
    assert names(shown) == ["onnx int8, machine 1", "onnx int8, machine 2"]


def test_lengths_are_never_pooled(records: list[Record]) -> None:
    own = [r for r in records if r.case.task == "latency" and r.case.subject.recipe == "int8"]
    text = replace(
        own[0], case=replace(own[0].case, options=replace(own[0].case.options, prompt="text"))
    )
    (row,) = rows([text, *own])
    assert [workload.options.prompt for workload in row.workloads] == ["image", "text"]


def test_a_proof_of_any_shape_is_shown(records: list[Record]) -> None:
    odd = {"passed": False, "failures": ["features: cosine 0.5"], "checks": {"new": [1, 2.5, None]}}
    own = records[2]
    case = replace(own.case, subject=replace(own.case.subject, proof=odd, quantization={}))
    found = report([replace(own, case=case)])
    assert "failed: features: cosine 0.5" in found
    assert "1, 2.5, –" in found
