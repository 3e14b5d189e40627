"""Models are exported unless build/ has an artifact of the same weights."""

import json
from pathlib import Path

import pytest

from bench.jobs.exports import ExportRequest, candidates
from export.errors import UserError
from export.manifest import MANIFEST
from export.origin import identity

TINY = "tiny-smolvlm"
SYNTHETIC = ExportRequest(["onnx"], ["int4"], False, "synthetic")


def test_a_missing_artifact_is_exported_once(tmp_path: Path) -> None:
    told: list[str] = []
    (first,) = candidates([TINY], SYNTHETIC, told.append, tmp_path)
    (second,) = candidates([TINY], SYNTHETIC, told.append, tmp_path)
    assert first == second
    assert first.problem is None
    assert (first.subject.synthetic, first.subject.recipe) == (True, "int4")
    assert told == [f"exporting {TINY} as onnx int4 to {tmp_path / TINY / 'onnx-int4'}"]


def test_an_artifact_of_other_weights_is_exported_again(tmp_path: Path) -> None:
    (first,) = candidates([TINY], SYNTHETIC, lambda text: None, tmp_path)
    path = Path(first.location) / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"origin": {"seed": 99}}))
    (second,) = candidates([TINY], SYNTHETIC, lambda text: None, tmp_path)
    assert second == first


def test_a_damaged_artifact_is_exported_again_by_its_models_name(tmp_path: Path) -> None:
    (first,) = candidates([TINY], SYNTHETIC, lambda text: None, tmp_path)
    damaged = Path(first.location) / "decoder_model_merged.onnx_data"
    content = bytearray(damaged.read_bytes())
    content[100] ^= 1
    damaged.write_bytes(content)
    (second,) = candidates([TINY], SYNTHETIC, lambda text: None, tmp_path)
    assert second == first
    candidates([first.location], SYNTHETIC, lambda text: None, tmp_path)


def test_a_failed_export_is_a_problem_and_not_the_end(tmp_path: Path) -> None:
    (tmp_path / TINY).write_text("in the way")
    (found,) = candidates([TINY], SYNTHETIC, lambda text: None, tmp_path)
    assert found.problem is not None
    assert "it could not be exported: exit code" in found.problem
    assert (found.subject.target, found.subject.sha256) == ("onnx", None)


def test_a_model_without_targets_is_its_checkpoint(tmp_path: Path) -> None:
    (own,) = candidates([TINY], ExportRequest([], [], True), lambda text: None, tmp_path)
    (random,) = candidates(
        [TINY], ExportRequest([], [], True, "synthetic"), lambda text: None, tmp_path
    )
    assert (own.subject.target, own.subject.synthetic, own.weights) == (None, False, None)
    assert (random.subject.synthetic, random.weights) == (True, "synthetic")


def test_an_artifact_knows_its_checkpoint_if_the_run_names_both(tmp_path: Path) -> None:
    (made,) = candidates([TINY], SYNTHETIC, lambda text: None, tmp_path)
    assert made.checkpoint == TINY
    both = ExportRequest([], [], True, "synthetic")
    artifact, model = candidates([made.location, TINY], both, lambda text: None, tmp_path)
    assert (artifact.checkpoint, model.checkpoint) == (TINY, None)
    (alone,) = candidates([made.location], both, lambda text: None, tmp_path)
    assert alone.checkpoint is None


def test_models_of_one_name_get_folders_of_their_own(tmp_path: Path) -> None:
    (other,) = candidates([TINY], SYNTHETIC, lambda text: None, tmp_path / "other")
    manifest = Path(other.location) / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"origin": {"seed": 99}}))
    _, made = candidates([other.location, TINY], SYNTHETIC, lambda text: None, tmp_path)
    assert Path(made.location).parent.name == f"{TINY}@{identity(made.subject.origin)[:7]}"


def test_an_unknown_name_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean tiny-smolvlm"):
        candidates(["tiny-smolvm"], SYNTHETIC, lambda text: None, tmp_path)
