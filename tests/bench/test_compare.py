"""Two runs against each other: verdicts by interval, machines never mixed, no silent losses."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.compare import Compared, compare, decide
from bench.analysis.paired import Change
from bench.cli import main
from bench.record import Record, append
from bench.reporting.markdown import markdown
from bench.reporting.verdict import verdict
from export.errors import UserError
from tests.bench.made import accuracy, fidelity, files, latency, record, subject

GOLDEN = Path(__file__).parent / "golden" / "compare.md"
INT8, INT4 = subject("int8", 2.4), subject("int4", 1.5)


def _later(records: list[Record]) -> list[Record]:
    return [replace(r, started_at=r.started_at.replace("2026", "2027")) for r in records]


def _run(
    scale: float = 1.0, peak: int = 180_000_000, right: int = 34, kld: float = 1e-5
) -> list[Record]:
    return [
        *latency(INT8, "onnxruntime", scale, peak),
        accuracy(INT8, "onnxruntime", right),
        fidelity(INT8, "onnxruntime", kld),
    ]


def _verdicts(found: Compared) -> dict[str, str]:
    return {comparison.number: comparison.verdict for comparison in found.comparisons}


def test_a_run_compared_with_itself_is_the_same() -> None:
    found = compare(_run(), _later(_run()), tolerance=0.2)
    verdicts = _verdicts(found)
    assert verdicts.pop("accuracy") == "undecided"  # 40 questions are few for one point
    assert set(verdicts.values()) == {"same"}
    assert not found.regressed


def test_unpaired_measurements_are_listed_and_the_rest_is_compared() -> None:
    def limited(r: Record) -> Record:
        return replace(r, case=replace(r.case, options=replace(r.case.options, limit=20)))

    found = compare(_run(), [limited(r) for r in _later(_run())], tolerance=0.2)
    assert {"first token", "peak memory", "accuracy"} <= _verdicts(found).keys()
    assert [why for *_, why in found.apart] == ["KLD: the questions differ"]
    told = markdown(verdict(found))
    assert "; 1 left out, see below." in told
    assert "- tiny-smolvlm onnx int8 on onnxruntime: KLD: the questions differ" in told
    assert not compare(_run(), _later(_run()), tolerance=0.2).apart


def test_a_job_that_succeeded_at_a_later_try_is_not_lost() -> None:
    ended = _later(_run())
    failed = replace(ended[-2], status="failed", reason="killed by SIGKILL")
    assert not compare(_run(), [failed, *ended], tolerance=0.2).lost
    assert compare(_run(), [*ended[:-2], failed], tolerance=0.2).lost


@pytest.mark.parametrize(
    ("changes", "number", "expected"),
    [
        ({"scale": 1.5}, "first token", "worse"),
        ({"scale": 1.5}, "decode rate", "worse"),
        ({"scale": 0.5}, "whole request", "better"),
        ({"peak": 220_000_000}, "peak memory", "worse"),
        ({"peak": 150_000_000}, "peak memory", "better"),
        ({"right": 20}, "accuracy", "worse"),
        ({"right": 33}, "accuracy", "undecided"),
        ({"kld": 0.1}, "KLD", "worse"),
        ({"kld": 2e-5}, "KLD", "same"),
    ],
    ids=str,
)
def test_each_quantity_has_a_verdict(changes: dict[str, Any], number: str, expected: str) -> None:
    found = compare(_run(), _later(_run(**changes)))
    assert _verdicts(found)[number] == expected
    assert found.regressed is (expected == "worse")


def test_a_larger_artifact_is_a_regression_with_certainty() -> None:
    was, grown = INT8, subject("int8", 2.6)
    before, after = (latency(own, "onnxruntime", 1.0, 10**8) for own in (was, grown))
    found = compare(before, after)
    (size,) = [c for c in found.comparisons if c.number == "size on disk"]
    assert (size.verdict, size.sure) == ("worse", None)


def test_one_process_leaves_time_undecided() -> None:
    found = compare(_run()[:1], _later(_run(scale=3.0)[:1]))
    assert _verdicts(found)["first token"] == "undecided"


@pytest.mark.parametrize(
    ("low", "high", "sign", "expected"),
    [
        (0.06, 0.2, 1, "worse"),
        (0.06, 0.2, -1, "better"),
        (-0.2, -0.06, 1, "better"),
        (-0.2, -0.06, -1, "worse"),
        (0.04, 0.2, 1, "undecided"),
        (-0.04, 0.04, 1, "same"),
        (None, None, 1, "undecided"),
    ],
)
def test_a_verdict_needs_the_whole_interval(
    low: float | None, high: float | None, sign: int, expected: str
) -> None:
    middle = 0.1 if low is None or high is None else (low + high) / 2
    spread = 0.0 if low is None or high is None else (high - low) / 3.92
    found, sure = decide(Change(middle, low, high, 3, False, spread), sign, 0.05)
    assert found == expected
    assert (sure is None) is (low is None)
    assert expected not in ("worse", "better") or (sure or 0) > 0.975


def test_rows_of_only_one_run_are_listed_and_not_compared() -> None:
    other = latency(INT4, "onnxruntime", 1.0, 10**8)
    found = compare([*_run(), *other], _later(_run()))
    assert [row.subject.recipe for row in found.only_base] == ["int4"]
    assert "Only in base" in markdown(verdict(found))


def test_a_job_that_now_fails_is_a_regression() -> None:
    broken = replace(record(INT8, "onnxruntime", "easy-vqa", _run()[0].outcome), status="failed")
    now = [*_later(_run())[:2], replace(broken, reason="killed by SIGKILL")]
    found = compare(_run(), now, tolerance=0.2)
    assert found.regressed
    assert "easy-vqa fails now: killed by SIGKILL" in markdown(verdict(found))


def test_a_row_measured_twice_counts_with_its_last_artifact() -> None:
    first = subject("int8", 9.0, sha256="1" * 64)
    older = [replace(r, case=replace(r.case, subject=first)) for r in _run()]
    found = compare([*older, *_run()], _later(_run()), tolerance=0.2)
    assert not found.regressed


CHANGES: dict[str, Callable[[Record], Record]] = {
    "CPU": lambda r: replace(r, environment=replace(r.environment, cpu="Other CPU")),
    "cores": lambda r: replace(r, environment=replace(r.environment, cores=64)),
    "memory, GB": lambda r: replace(r, environment=replace(r.environment, memory_bytes=10**9)),
    "instructions": lambda r: replace(r, environment=replace(r.environment, cpu_flags=())),
}


@pytest.mark.parametrize("trait", CHANGES)
def test_different_machines_are_refused_with_the_differing_trait(trait: str) -> None:
    with pytest.raises(UserError, match=f"different machines.*{trait}: ") as error:
        compare(_run(), [CHANGES[trait](r) for r in _run()])
    assert "\n" not in str(error.value)


def test_a_run_of_two_machines_is_refused() -> None:
    with pytest.raises(UserError, match="the new run is of more than one machine"):
        compare(_run(), [*_run(), *(CHANGES["CPU"](r) for r in _run())])


def test_different_software_is_compared_and_listed() -> None:
    newer = [
        replace(r, environment=replace(r.environment, packages={"numpy": "9.0"})) for r in _run()
    ]
    found = compare(_run(), newer, tolerance=0.2)
    assert found.software == ("numpy: 2.4.6 -> 9.0", "onnxruntime: 1.32.0 -> not known")


@pytest.mark.parametrize(("base", "new"), [([], _run()), (_run(), [])])
def test_an_empty_run_is_a_users_error(base: list[Record], new: list[Record]) -> None:
    with pytest.raises(UserError, match="has no records"):
        compare(base, new)


def test_runs_with_nothing_in_common_are_a_users_error() -> None:
    with pytest.raises(UserError, match="nothing is measured in both"):
        compare(_run(), latency(INT4, "onnxruntime", 1.0, 10**8))


def test_the_text_is_the_golden_file(records: list[Record]) -> None:
    int4 = latency(INT4, "onnxruntime", 0.8, 160_000_000)
    now = _later([*_run(1.4, 200_000_000, 30, 0.01), *int4])
    found = markdown(verdict(compare(records, now)))
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(found, encoding="utf-8")
    assert found == GOLDEN.read_text(encoding="utf-8"), "UPDATE_GOLDEN=1 writes the new one"


def _file(path: Path, records: list[Record]) -> str:
    for own in records:
        append(path, own)
    return str(path)


def test_the_command_exits_with_1_only_on_a_regression(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = _file(tmp_path / "base.jsonl", _run())
    new = _file(tmp_path / "new.jsonl", _later(_run(scale=2.0)))
    assert main(["compare", base, base, "--tolerance", "20"]) == 0
    assert capsys.readouterr().out.startswith("# No regression")
    assert main(["compare", base, new, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["regressed"] is True
    assert {"number", "verdict", "sure", "change"} <= found["numbers"][0].keys()


def test_the_command_prints_damaged_lines_and_refuses_a_run_of_only_those(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = _file(tmp_path / "base.jsonl", _run())
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{broken\n" + '{"schema": 99}\n')
    assert main(["compare", base, str(broken)]) == 2
    told = capsys.readouterr().err
    assert "broken.jsonl:1: not a record" in told
    assert "broken.jsonl:2: not a record, skipped: has schema 99" in told
    assert "broken.jsonl: there are no records" in told


OTHER = {"origin": files("retrained")}


def _of(records: list[Record], **changes: Any) -> list[Record]:
    """The same results of another subject."""
    return [
        replace(r, case=replace(r.case, subject=replace(r.case.subject, **changes)))
        for r in records
    ]


def test_a_retrained_model_is_compared_with_its_namesake_and_said_to_be_another() -> None:
    found = compare(_run(), _of(_later(_run()), **OTHER), tolerance=0.2)
    assert _verdicts(found)["first token"] == "same"
    (line,) = found.weights
    assert line.startswith("tiny-smolvlm: model.safetensors is 726574726169, expected 74696e792d73")
    assert f"## Models that differ\n\n- {line}" in markdown(verdict(found))
    assert compare(_run(), _later(_run())).weights == ()


def test_namesakes_of_one_run_are_compared_with_their_own_files_only() -> None:
    both = [*_of(_run(2.0), **OTHER), *_run()]
    found = compare(_run(), _later(both), tolerance=0.2)
    assert _verdicts(found)["first token"] == "same"
    assert {
        c.subject.origin["files"]["model.safetensors"]["sha256"] for c in found.comparisons
    } == {b"tiny-smolvlm".hex()}
    assert [row.subject.model[:13] for row in found.only_new] == ["tiny-smolvlm@"]
    assert found.weights == ()


def test_divergences_from_different_references_are_not_compared() -> None:
    def other(r: Record) -> Record:
        agreement = r.outcome.agreement and replace(r.outcome.agreement, other="it is another")
        case = replace(r.case, reference="5" * 64 if agreement else None)
        return replace(r, case=case, outcome=replace(r.outcome, agreement=agreement))

    found = compare(_run(), [other(r) for r in _later(_run())], tolerance=0.2)
    assert [why for *_, why in found.apart] == ["KLD: the references differ"]
    assert "KLD" not in _verdicts(found)
