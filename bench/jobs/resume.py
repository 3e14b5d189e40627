"""Which jobs of a plan already have a record.

A job that failed counts as done. The job that was running when a run was interrupted has no record,
so it is repeated.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, replace

from bench.jobs.plan import Plan
from bench.record import Case, Record
from bench.tasks import with_own_options


def remaining(planned: Plan, records: Iterable[Record]) -> Plan:
    """The plan without recorded jobs."""
    done = {key(record.case) for record in records}
    return replace(
        planned,
        jobs=tuple(job for job in planned.jobs if key(job.case) not in done),
        skips=tuple(skip for skip in planned.skips if key(skip.case) not in done),
    )


def key(case: Case) -> str:
    """Equal for equal jobs on the same bytes; the artifact's sha256 counts, not its proof."""
    subject = replace(case.subject, proof=None, quantization=None, recipe_used=None)
    return json.dumps(asdict(replace(with_own_options(case), subject=subject)), sort_keys=True)
