"""Removes the jobs that already have a record from a plan, to continue an interrupted run.

A job that failed has a record too, so it is not repeated. The job that was running when the run was
interrupted has none, so it is.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, replace

from bench.jobs.plan import Plan
from bench.record import Case, Record
from bench.tasks import with_own_options


def remaining(planned: Plan, records: Iterable[Record]) -> Plan:
    """Return the plan without the jobs and skips that are among the records."""
    done = {key(record.case) for record in records}
    return replace(
        planned,
        jobs=tuple(job for job in planned.jobs if key(job.case) not in done),
        skips=tuple(skip for skip in planned.skips if key(skip.case) not in done),
    )


def key(case: Case) -> str:
    """Return a text that is equal for cases that measure the same thing on the same bytes.

    It contains the artifact's sha256, but not its proof, nor options that the task does not read.
    """
    subject = replace(case.subject, proof=None, quantization=None, recipe_used=None)
    return json.dumps(asdict(replace(with_own_options(case), subject=subject)), sort_keys=True)
