"""Which jobs of a plan a run's file has already. Pure; NOT aware of files or processes.

A job counts as done when it ended, well or not: a failure is a result too. What was under way when
a run was broken off has no record, so it is done again.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, replace

from bench.jobs.plan import Plan
from bench.record import Case, Record
from bench.tasks import with_own_options


def remaining(planned: Plan, records: Iterable[Record]) -> Plan:
    """The plan without what is recorded."""
    done = {key(record.case) for record in records}
    return replace(
        planned,
        jobs=tuple(job for job in planned.jobs if key(job.case) not in done),
        skips=tuple(skip for skip in planned.skips if key(skip.case) not in done),
    )


def key(case: Case) -> str:
    """The same for the same job on the same bytes.

    An artifact is its sha256; what else its manifest says (a proof's figures) does not count.
    """
    subject = replace(case.subject, proof=None, quantization=None)
    return json.dumps(asdict(replace(with_own_options(case), subject=subject)), sort_keys=True)
