"""Calibration collects the inputs of each matrix and reduces the divergence of an artifact."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from export.__main__ import main
from export.arrays import FloatArray
from export.artifact import load_artifact
from export.checkpoint.registry import open_model
from export.errors import UserError
from export.quantize.recipe import Calibration, RecipeUsed
from export.weights import Weights
from runtimes.calibrate.hessian import CollectedHessians, calibrated, one_tile_images, requests_of
from runtimes.calibrate.questions import read_questions
from runtimes.proof.probes import probes
from runtimes.reference import ReferenceScorer

MODEL = open_model("tiny-smolvlm")
ASKED = probes(64)[:2]
FIRST, LAST = "v.blk.0.attn_q", "blk.3.ffn_down"


class Inputs:
    """An observer of the reference that keeps the inputs of some matrices."""

    def __init__(self, names: list[str]) -> None:
        self.seen: dict[str, list[FloatArray]] = {name: [] for name in names}

    def __call__(self, x: Tensor, names: tuple[str, ...]) -> None:
        for name in names:
            if name in self.seen:
                self.seen[name].append(x.flatten(0, -2).numpy().copy())


def test_hessians_sum_all_inputs_whatever_the_memory_limit() -> None:
    names = [FIRST, "mm.model.fc", "blk.0.attn_q", LAST]
    observed = Inputs(names)
    scorer = ReferenceScorer(one_tile_images(MODEL), observed)
    for request in CollectedHessians(MODEL, ASKED, {})._requests:
        scorer.score(request, scorer.features(request))
    for limit in (1 << 17, 1 << 30):  # a few matrices at a time, and all of a component
        hessians = CollectedHessians(MODEL, ASKED, {}, limit_bytes=limit)
        for name in names:
            inputs = np.concatenate(observed.seen[name])
            assert hessians.inverse_cholesky(name).shape == (inputs.shape[1],) * 2
            sums = hessians._collector.sums[name].numpy()
            np.testing.assert_allclose(sums, inputs.T @ inputs, rtol=1e-4, atol=1e-3)


class Read:
    """Weights that record which tensors were read."""

    def __init__(self, weights: Weights) -> None:
        self._weights, self.names = weights, set[str]()
        self.synthetic, self.origin, self.shapes = weights.synthetic, {}, weights.shapes

    def read(self, name: str, start: int = 0, stop: int | None = None) -> FloatArray:
        self.names.add(name)
        return self._weights.read(name, start, stop)


def test_forward_pass_stops_after_the_last_collected_matrix() -> None:
    weights = Read(MODEL.weights)
    found = CollectedHessians(replace(MODEL, weights=weights), ASKED, {}, limit_bytes=1 << 17)
    assert found.inverse_cholesky("blk.1.attn_q") is not None
    assert "blk.0.ffn_down.weight" in weights.names
    assert not any(name.startswith(("blk.2.", "output.")) for name in weights.names)
    assert found.inverse_cholesky("blk.3.ffn_down") is not None


def questions(folder: Path, *lines: object) -> Path:
    Image.new("RGB", (64, 64), "red").save(folder / "red.png")
    path = folder / "questions.jsonl"
    text = "\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines)
    path.write_bytes(text.encode(errors="surrogateescape"))
    return path


def test_a_question_may_hold_other_separators_of_lines(tmp_path: Path) -> None:
    odd = json.dumps({"question": "first\u2028second\x85third?"}, ensure_ascii=False)
    asked = read_questions(questions(tmp_path, odd, {"question": "why?"}))
    assert [one.question for one in asked] == ["first\u2028second\x85third?", "why?"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"question": "what? " * 900}, r"takes \d+ positions, the model's context has 512; "),
        ({"question": "what?", "answer": "x" * 900}, r"takes \d+ positions, the model's context "),
        ({"question": "what is <image> here?"}, "the question contains '<image>', a special"),
        ({"question": "what?", "answer": "\ud800"}, "not valid Unicode"),
    ],
)
def test_a_question_that_does_not_fit_the_model_is_refused_with_its_line_number(
    line: object, said: str, tmp_path: Path
) -> None:
    path = questions(tmp_path, {"question": "why?"}, "", line)
    for use in (calibrated, requests_of):
        with pytest.raises(UserError, match=rf"^questions\.jsonl:3: .*{said}"):
            use(MODEL, path)


def test_questions_of_a_file_are_read_with_their_images(tmp_path: Path) -> None:
    red = {"question": "what color?", "image": "red.png", "answer": " red"}
    path = questions(tmp_path, red, "", {"question": "why?"})
    first, second = read_questions(path)
    assert first.images[0].size == (64, 64)
    assert (first.answer, second.images, second.answer) == (" red", (), "")
    origin = calibrated(MODEL, path).hessians.origin
    assert origin["n"] == 2
    assert len(origin["sha256"]) == 64


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", r"questions\.jsonl:1: .*expected \{\"question\""),
        ({"image": "red.png"}, r":1: question: missing"),
        ({"question": 3}, r":1: question: expected a string"),
        (
            {"question": "x", "picture": "red.png"},
            r":1: CalibrationQuestion: unknown key",
        ),
        ({"question": "x", "image": "../red.png"}, r"not a plain path inside"),
        ({"question": "x", "image": "blue.png"}, r"blue\.png"),
        ({"question": "x", "image": "blue.png"}, r"questions\.jsonl:1: .*blue\.png"),
        ("[" * 100_000, r"questions\.jsonl:1: .*nested"),
        ('{"question": "caf\udce9"}', r"questions\.jsonl:1: .*utf-8"),
        ("", r"has 0 questions, expected 1 to"),
    ],
)
def test_invalid_question_is_refused_with_its_line_number(
    line: object, said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        read_questions(questions(tmp_path, line))


def export(folder: Path, *more: str) -> dict[str, float]:
    argv = ["tiny-smolvlm", "--target", "onnx", "--recipe", "int4", "--out", str(folder), *more]
    assert main(argv) == 0
    manifest = load_artifact(folder).manifest
    total = manifest.total_bytes
    kld = manifest.proof.checks.logits.mean_kld
    return {"recipe": manifest.recipe, "bytes": total, "kld": kld, "used": manifest.recipe_used}


def test_calibration_and_a_budget_reduce_the_divergence(
    tmp_path: Path,
) -> None:
    plain = export(tmp_path / "plain")
    gptq = export(tmp_path / "gptq", "--calibrate")
    assert gptq["recipe"] == "int4-gptq"
    assert gptq["bytes"] == plain["bytes"]
    assert gptq["used"] == RecipeUsed("int4", calibrated=Calibration("the proof's probes"))
    assert gptq["kld"] < 0.5 * plain["kld"]
    mixed = export(tmp_path / "mixed", "--budget-mb", "2")
    assert mixed["used"] == RecipeUsed("int4", budget_mb=2.0)
    assert mixed["recipe"] == "int4-2mb"
    assert plain["bytes"] < mixed["bytes"] <= 2_000_000
    assert mixed["kld"] < plain["kld"]


@pytest.mark.parametrize("budget", ["0", "-1", "2/..", "1e3", "nan"])
def test_budget_must_be_a_positive_number(budget: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["tiny-smolvlm", "--target", "onnx", "--recipe", "int4", f"--budget-mb={budget}"])
    assert stopped.value.code == 2
    assert f"'{budget}' is not a number above 0" in capsys.readouterr().err


def test_calibrating_a_recipe_without_four_bits_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["tiny-smolvlm", "--target", "onnx", "--recipe", "int8", "--out", str(tmp_path / "a")]
    assert main([*argv, "--calibrate"]) == 2
    assert "recipe int8 rounds nothing to 4 bits" in capsys.readouterr().err
