"""Fixtures of the tests of bench: fake artifacts, jobs on them, a made-up run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.jobs.plan import Job
from bench.options import Options
from bench.record import Case, Record
from bench.subjects import candidate
from tests.bench.made import MakeArtifact, MakeJob, run_records, save_artifact


@pytest.fixture
def make_artifact(tmp_path: Path) -> MakeArtifact:
    """A folder that is an artifact in every respect but its answers (see runtimes.fake)."""

    def make(name: str = "fake", script: Mapping[str, Any] | None = None, **changes: Any) -> Path:
        return save_artifact(tmp_path / name, script, **changes)

    return make


@pytest.fixture
def make_job(make_artifact: MakeArtifact) -> MakeJob:
    """A latency job on a fake artifact."""

    def make(script: Mapping[str, Any] | None = None, task: str = "latency", **options: Any) -> Job:
        location = str(make_artifact(script=script))
        case = Case(candidate(location).subject, "fake", "cpu", 1, task, Options(**options), 0)
        return Job(case, location, None)

    return make


@pytest.fixture
def records() -> list[Record]:
    """A run: a checkpoint, two artifacts, one of random weights, a failed and a skipped job."""
    return run_records()
