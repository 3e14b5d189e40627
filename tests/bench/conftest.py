"""Fixtures of the tests of bench: fake artifacts, jobs on them, a made-up run."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from bench.jobs.plan import Job
from bench.options import Options
from bench.record import Case, Outcome, Record
from bench.subjects import candidate
from export.manifest import SCHEMA, Details, FileFacts, Manifest, Quantization
from export.quantize.recipe import RecipeUsed
from runtimes.fake import SCRIPT
from tests.bench.made import (
    PROMPT,
    PROOF,
    TILES,
    VLM,
    MakeArtifact,
    MakeJob,
    accuracy,
    fidelity,
    latency,
    quantization,
    record,
    sha256,
    subject,
    tokenizer_json,
)


@pytest.fixture
def make_artifact(tmp_path: Path) -> MakeArtifact:
    """A folder that is an artifact in every respect but its answers (see runtimes.fake)."""

    def make(name: str = "fake", script: Mapping[str, Any] | None = None, **changes: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        contents = {
            "tokenizer.json": tokenizer_json().encode(),
            SCRIPT: json.dumps(dict(script or {})).encode(),
        }
        for path, data in contents.items():
            (folder / path).write_bytes(data)
        manifest = Manifest(
            schema=SCHEMA,
            model="fake-model",
            origin={"seed": 0},
            synthetic=False,
            vlm=VLM,
            image=TILES,
            prompt=PROMPT,
            target="onnx",
            recipe="int4",
            recipe_used=RecipeUsed(changes.get("recipe", "int4")),
            layout="native",
            files={path: FileFacts(len(data), sha256(data)) for path, data in contents.items()},
            components={},
            quantization=Quantization(4.5, {}, {}, ()),
            details=Details(),
            tools={},
            proof=None,
        )
        (folder / "artifact.json").write_text(json.dumps(asdict(replace(manifest, **changes))))
        return folder

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
    base = subject(None, 3.3)
    int8 = subject("int8", 2.4, quantization=quantization(8.5), proof=PROOF)
    int4 = subject("int4", 1.5, quantization=quantization(4.5))
    random = subject("int4", 312.0, model="smolvlm-500m", synthetic=True, sha256="5" * 64)
    failed = record(int4, "onnxruntime", "easy-vqa", Outcome())
    skipped = record(random, "onnxruntime", "easy-vqa", Outcome())
    return [
        *latency(base, "reference", 5.0, 400_000_000),
        *latency(int8, "onnxruntime", 1.0, 180_000_000),
        *latency(int4, "onnxruntime", 0.8, 160_000_000),
        *latency(random, "onnxruntime", 50.0, 900_000_000),
        accuracy(base, "reference", 34),
        accuracy(int8, "onnxruntime", 34),
        accuracy(int4, "onnxruntime", 32),
        fidelity(int8, "onnxruntime", 1e-5),
        fidelity(int4, "onnxruntime", 1e-3),
        replace(failed, status="failed", reason="killed by SIGKILL; no output"),
        replace(skipped, status="skipped", reason="random weights | no accuracy", wall_s=None),
    ]
