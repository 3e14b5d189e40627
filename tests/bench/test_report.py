"""Reports are pure: the same records give the same bytes, kept in golden/."""

import os
import re
from dataclasses import replace
from pathlib import Path

from bench.analysis.rows import names, rows
from bench.options import Options
from bench.record import Damage, Outcome, Record
from bench.reporting.report import Figure, report
from bench.reporting.reproduce import flags
from export.origin import identity
from export.proof import PreprocessingCheck, Proof, RegionCheck, Skipped
from tests.bench.made import PROOF, files, phases

GOLDEN = Path(__file__).parent / "golden" / "report.md"


def test_report_is_the_golden_file(records: list[Record]) -> None:
    found = report(records, [Figure("report-decode.svg", "decode rate", records[0].case.subject)])
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(found, encoding="utf-8")
    assert found == GOLDEN.read_text(encoding="utf-8"), "UPDATE_GOLDEN=1 writes the new one"


def test_report_of_failures_only_has_their_reasons(records: list[Record]) -> None:
    failed = [record for record in records if record.status == "failed"]
    found = report(failed)
    assert "Nothing was measured" in found
    assert "killed by SIGKILL" in found


def test_report_without_records_is_a_report() -> None:
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
    assert [latency.options.prompt for latency in row.latencies] == ["image", "text"]


def test_a_failed_proof_is_shown_with_its_reason_and_every_check(records: list[Record]) -> None:
    checks = replace(
        PROOF.checks,
        features=Skipped("the model takes no images"),
        places=RegionCheck(2, {"point": 0.25, "gaze": 0.0}),
    )
    failed = Proof(False, None, ("logits: mean KLD 9",), checks)
    own = records[2]
    case = replace(own.case, subject=replace(own.case.subject, proof=failed))
    found = report([replace(own, case=case)])
    assert "failed: logits: mean KLD 9" in found
    assert "Skipped features: the model takes no images." in found
    (line,) = (line for line in found.splitlines() if "failed: logits" in line)
    cells = [cell.strip() for cell in line.split("|")]
    assert cells[2:-1] == [
        "failed: logits: mean KLD 9",
        *("84", "skipped", "skipped", "0.000400", "98.4 %", "12", "12", "0.250"),
    ]


def test_pixels_that_were_not_compared_are_named_with_the_reason(records: list[Record]) -> None:
    ids = PreprocessingCheck(6, None, 6, True, "chat_template.json", pixels="not compared, no PIL")
    proof = replace(PROOF, checks=replace(PROOF.checks, preprocessing=ids))
    own = records[2]
    case = replace(own.case, subject=replace(own.case.subject, proof=proof))
    found = report([replace(own, case=case)])
    assert "| equal, pixels not compared |" in found
    assert "Pixels: not compared, no PIL." in found


def test_damaged_lines_are_in_the_report(records: list[Record]) -> None:
    found = report(records, damages=[Damage("run.jsonl", 7, "schema 99, this version reads 1")])
    assert "**The runs have 1 damaged line, which is left out (see below).**" in found
    assert "| run.jsonl | 7 " in found.replace("   ", " ")


def test_records_of_several_machines_are_mentioned(records: list[Record]) -> None:
    other = [replace(r, environment=replace(r.environment, cores=64)) for r in records]
    assert "2 different machines or software versions" in report([*records, *other])


def test_disturbances_are_mentioned_first_and_grouped_with_their_jobs(
    records: list[Record],
) -> None:
    notes = [f"others used {used} CPUs meanwhile" for used in ("1.5", "1.1", "1.1", "2")]
    noisy = [replace(r, noise=(note,)) for r, note in zip(records[:4], notes, strict=True)]
    found = report([*noisy, *records[4:]])
    assert "4 of the 13 measured jobs ran disturbed" in found.partition("## tiny-smolvlm")[0]
    (line,) = (line for line in found.splitlines() if "CPUs meanwhile" in line)
    assert [cell.strip() for cell in line.split("|")[1:-1]] == [
        "others used 1.1 to 2 CPUs meanwhile",
        "tiny-smolvlm checkpoint on reference: latency, rounds 1 and 2; "
        "tiny-smolvlm onnx int8 on onnxruntime: latency, rounds 1 and 2",
        "4",
    ]


def test_jobs_skipped_for_one_reason_are_one_line(records: list[Record]) -> None:
    own = [r for r in records[:6] if r.case.round == 0]
    left = [
        replace(r, case=replace(r.case, runtime=runtime), status="skipped", reason="it may not")
        for r in own
        for runtime in ("one", "two")
    ]
    (line,) = (line for line in report([*records, *left]).splitlines() if "it may not" in line)
    assert [cell.strip() for cell in line.split("|")[1:4]] == [
        "tiny-smolvlm checkpoint, tiny-smolvlm onnx int8 and tiny-smolvlm onnx int4",
        "one and two",
        "latency",
    ]


def test_the_report_names_the_fidelity_sample_that_it_shows(
    records: list[Record],
) -> None:
    own = next(r for r in records if r.outcome.agreement is not None)
    assert own.outcome.agreement is not None
    shown = replace(own.outcome.agreement, source="made, seed 3")
    named = replace(own, outcome=replace(own.outcome, agreement=shown))
    other = replace(named, case=replace(own.case, options=Options(prompts="counting")))
    assert "questions: made, seed 3." in report([named])
    assert "Not shown: 1 smaller or earlier sample." in report([other, named])


def test_the_verdict_of_a_profile_has_the_peak(records: list[Record]) -> None:
    held = [
        replace(
            r,
            case=replace(r.case, profile="phone-4gb"),
            outcome=replace(
                r.outcome, fits=r.case.round == 0, budget_bytes=170_000_000, held_by="watchdog"
            ),
        )
        for r in records[2:4]
    ]
    assert "does not fit: 180 of 170 MB (watchdog)" in report(held)
    assert "fits: 180 of 170 MB" in report(held[:1])
    assert "--device phone-4gb --rounds" in report(held)


def test_every_profile_has_a_verdict_with_the_measured_share(records: list[Record]) -> None:
    large = [
        replace(r, outcome=replace(r.outcome, memory=phases(2_500_000_000))) for r in records[2:4]
    ]
    table = report([*records[:2], *large]).split("### Devices it fits")[1].split("###")[0]
    assert "**does not fit**, 125 %" in table
    assert "fits, 83 %" in table  # of phone-8gb
    (checkpoint,) = (line for line in table.splitlines() if line.startswith("| checkpoint"))
    assert checkpoint.count(" – ") == 4  # phones and the Pi have no torch
    assert "cuda" not in table


def test_a_job_stopped_at_its_budget_is_listed_with_the_devices(records: list[Record]) -> None:
    own = records[2]
    stopped = replace(
        own,
        case=replace(own.case, profile="phone-4gb"),
        status="failed",
        reason="does not fit: stopped at 2,010 MB of a budget of 2,000 MB",
        outcome=Outcome(memory=phases(2_010_000_000)[:1], fits=False, held_by="watchdog"),
    )
    found = report([*records[:2], stopped]).split("### Devices it fits")[1].split("###")[0]
    assert "- onnx int8 on onnxruntime, held to phone-4gb: does not fit: stopped at" in found


def test_gpu_figures_are_shown_if_there_are_any(records: list[Record]) -> None:
    assert "GPU" not in report(records)
    gpu = replace(records[2].environment, gpus=("NVIDIA A, 8192 MiB",), gpu_driver="550.54")
    on_gpu = [
        replace(
            r,
            environment=gpu,
            case=replace(r.case, device="cuda", profile="cuda"),
            outcome=replace(
                r.outcome,
                memory=tuple(replace(m, device_bytes=1_234_000_000) for m in r.outcome.memory),
                budget_bytes=7 * 10**9,
                fits=True,
            ),
        )
        for r in records[2:4]
    ]
    found = report(on_gpu)
    for part in ("| GPU memory |", "NVIDIA A, 8192 MiB; driver 550.54", "| cuda"):
        assert part in found
    assert "fits: 1,234 of 7,000 MB" in found
    assert "fits, 18 %" in found


def test_outliers_are_listed_and_kept(records: list[Record]) -> None:
    own = records[2]
    slow = replace(own.outcome.timings[2], first_token_s=9.0)
    outcome = replace(own.outcome, timings=(*own.outcome.timings[:2], slow))
    found = report([replace(own, outcome=outcome), records[3]])
    assert "1/3: 9,000" in found


def test_paired_rounds_are_compared_in_pairs(records: list[Record]) -> None:
    times = ("00", "01")
    alternate = [
        replace(r, started_at=f"2026-01-01T00:{times[r.case.round]}:0{n % 10}+00:00")
        for n, r in enumerate(records[:6])
    ]
    table = report(alternate).split("### Speed compared")[1].split("###")[0]
    assert table.count(" yes |") == 2


def test_the_commands_to_reproduce_contain_no_real_folder() -> None:
    options = Options(data="/home/somebody/rows", reuse=False, shard="1/2")
    assert flags(options) == ["--data DIR", "--shard 1/2", "--no-reuse"]


def test_models_of_one_name_have_sections_of_their_own(records: list[Record]) -> None:
    twin = [
        replace(r, case=replace(r.case, subject=replace(r.case.subject, origin=files("twin"))))
        for r in records
        if r.case.subject.recipe == "int4" and not r.case.subject.synthetic
    ]
    text = report([*records, *twin])
    names = {f"tiny-smolvlm@{identity(files(of))[:7]}" for of in ("tiny-smolvlm", "twin")}
    titles = re.findall(r"^## (tiny-.*)$", text, re.MULTILINE)
    assert (len(titles), set(titles)) == (2, names)
    assert "## smolvlm-500m (random weights)" in text
    assert report(records).count("@") == 0


def test_a_reference_of_another_origin_is_said_to_be_one(records: list[Record]) -> None:
    def other(r: Record) -> Record:
        agreement = r.outcome.agreement and replace(r.outcome.agreement, other="x is y")
        return replace(r, outcome=replace(r.outcome, agreement=agreement))

    expected = "Reference: tiny-smolvlm, not the model it was exported from (x is y)."
    assert expected in report([other(r) for r in records])
    assert expected not in report([*records, *(other(r) for r in records)])
