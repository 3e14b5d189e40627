"""A proof that needs more memory than is free is skipped with one line of explanation."""

from pathlib import Path

import pytest
from tiny_models import hf_model, tiny_artifact, tiny_model

from export.proof import Skipped
from runtimes.proof.ladder import prove
from runtimes.proof.memory import free_bytes, proof_bytes, too_little

MEMINFO = "MemTotal:  1000 kB\nMemAvailable:    600 kB\n"


@pytest.mark.parametrize(
    ("limit", "free"),
    [(None, 600 * 1024), ("max", 600 * 1024), ("5000", 4000), ("500", 0)],
    ids=["no container", "a container without a limit", "a limit", "over the limit"],
)
def test_free_memory_is_the_smaller_of_system_and_container(
    limit: str | None, free: int, tmp_path: Path
) -> None:
    (tmp_path / "meminfo").write_text(MEMINFO)
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text("1000\n")
    assert free_bytes(tmp_path / "meminfo", tmp_path) == free


def test_free_memory_is_unknown_without_proc_and_cgroup(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "meminfo", tmp_path) is None
    assert too_little(10**12, None) is None


def test_proof_that_does_not_fit_is_skipped_with_a_reason(tmp_path: Path) -> None:
    model = tiny_model(hf_model("grouped heads"))
    artifact = tiny_artifact(model, "onnx", "fp32", tmp_path)
    proof = prove(model, artifact, free=10**8, threads=1)
    assert proof.passed is None
    assert proof.failures == ()
    assert proof.unjudged.startswith("the proof needs about 1.0 GB of memory and 0.1 GB are free")
    assert proof.checks.logits == Skipped(proof.unjudged)
    assert too_little(proof_bytes(model, artifact), 2 * 10**9) is None
