"""A run that was broken off goes on where it was, and never does a job twice."""

from collections.abc import Sequence
from dataclasses import replace

from bench.jobs.plan import Job, Plan, Skip
from bench.jobs.resume import key, remaining
from bench.options import Options
from bench.record import Case, Outcome, Record, Subject
from tests.bench.made import PROOF, record, subject

SUBJECT = subject("int4", 1.5)


def case(of: Subject = SUBJECT, number: int = 0) -> Case:
    return Case(of, "fake", "cpu", 2, "latency", Options(decode_tokens=4), number)


def plan(*numbers: int, skips: Sequence[Skip] = ()) -> Plan:
    return Plan(tuple(Job(case(number=n), "there", None) for n in numbers), tuple(skips))


def done(number: int, of: Subject = SUBJECT) -> Record:
    return record(of, "fake", "latency", Outcome(), number)


def test_jobs_with_a_record_are_left_out() -> None:
    left = remaining(plan(0, 1, 2), [done(1)])
    assert [job.case.round for job in left.jobs] == [0, 2]


def test_a_failure_is_a_result_too() -> None:
    failed = replace(done(0), status="failed", reason="killed by SIGKILL")
    assert remaining(plan(0), [failed]).jobs == ()


def test_a_skip_is_recorded_once() -> None:
    skip = Skip(case(), "no such library")
    assert remaining(plan(skips=[skip]), [done(0)]).skips == ()


def test_options_of_other_tasks_do_not_make_another_job() -> None:
    timed, asked = case(), replace(case(), task="easy-vqa")
    assert key(timed) == key(replace(timed, options=replace(timed.options, limit=5, shard="1/2")))
    assert key(asked) == key(replace(asked, options=replace(asked.options, repeats=9)))
    assert key(asked) != key(replace(asked, options=replace(asked.options, limit=5)))


CHANGES = {
    "an artifact that was exported again": {"subject": replace(SUBJECT, sha256="0" * 64)},
    "other options": {"options": Options(decode_tokens=5)},
    "another profile": {"profile": "phone-4gb"},
    "another number of threads": {"threads": 1},
}


def test_everything_that_affects_a_measurement_makes_another_job() -> None:
    for what, change in CHANGES.items():
        assert key(replace(case(), **change)) != key(case()), what  # type: ignore[arg-type]


def test_a_proof_does_not_make_another_job() -> None:
    assert key(case(replace(SUBJECT, proof=PROOF))) == key(case())
