"""What a pooled course shows, and its step's loss against the loss of one question at a time."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from one_question import scored_logits
from tokenizers import Tokenizer

from export.checkpoint.registry import open_model
from models.train import plan, pool, toys
from models.train.families import FAMILIES
from models.train.lesson import Lesson
from models.train.packing import Packer

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"
TWINS = {
    "gemma3": "tiny-gemma3",
    "moondream": "tiny-moondream",
    "qwen2_5_vl": "tiny-qwen2.5-vl",
    "smolvlm": "tiny-smolvlm",
}


@pytest.fixture(scope="module")
def pictures() -> pool.Pool:
    """Six of each kind that needs no font or package of its own."""
    kinds = ("counting", "grid", "digits", pool.BOXES)
    jobs = [(kind, 0, 6, False) for kind in kinds]
    return pool._joined(jobs, iter([pool._drawn(*job) for job in jobs]))


def test_a_plan_asks_only_what_can_be_asked_of_a_picture(pictures: pool.Pool) -> None:
    drawn = plan.drawn(pictures, plan.Recipe(20, batch=8, placed_batch=4), 0, has_places=True)
    for shown, asked in zip(drawn.pictures.ravel(), drawn.asked.reshape(-1, 4), strict=True):
        assert set(asked) <= set(pictures.asked[shown]) - {pool.NONE}
    named = pictures.named[drawn.placed]
    there = drawn.things != pool.NONE
    picked = np.take_along_axis(named, np.maximum(drawn.things, 0), axis=-1)
    assert (picked == drawn.subjects)[there].all()
    assert there.any()
    assert not there.all()
    is_named = (named[:, :, None] == drawn.subjects[..., None]).any(-1)
    assert not is_named[~there].any()


def test_labels_are_learnt_alone_at_first_and_the_rate_ends_near_zero(
    pictures: pool.Pool,
) -> None:
    drawn = plan.drawn(pictures, plan.Recipe(1000, batch=1), 0, has_places=False)
    assert drawn.answer_weights.tolist() == [0.0] * 120 + [1.0] * 880
    assert drawn.rates[49] > 5 * drawn.rates[119]
    assert 0.45 < drawn.rates[120:].max() < 0.5
    assert drawn.rates[-1] < 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_the_answers_of_a_step_are_those_of_one_question_at_a_time(
    family: str, pictures: pool.Pool
) -> None:
    torch.manual_seed(0)
    row = FAMILIES[family]
    made = Tokenizer.from_file(str(MODELS / TWINS[family] / "tokenizer.json"))
    model = row.build(made).eval()
    lesson = Lesson(row, model, made, pictures, (1.0, 0.5), "cpu")
    shown = torch.tensor([0, 13])
    asked = torch.from_numpy(pictures.asked[shown][:, :1].astype(np.int64)).expand(-1, 4)
    with torch.no_grad():
        images = row.image_tokens(model, lesson._shown(shown))
        logits, wanted = lesson._answered(images, asked)
        packer = Packer(row.prompt, row.grid**2, made)
        for place, picture in enumerate(shown.tolist()):
            question = pictures.questions[pictures.asked[picture, 0]]
            expected, labels = scored_logits(row, model, packer, images[[place]], question)
            is_scored = wanted[place].unflatten(0, (4, -1))[0] != -100
            assert wanted[place].unflatten(0, (4, -1))[0][is_scored].tolist() == labels.tolist()
            got = logits[place].unflatten(0, (4, -1))[0][is_scored]
            torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_an_exam_asks_no_words_about_pictures_to_find_things_in(pictures: pool.Pool) -> None:
    row = FAMILIES["smolvlm"]
    made = Tokenizer.from_file(str(MODELS / TWINS["smolvlm"] / "tokenizer.json"))
    lesson = Lesson(row, row.build(made).eval(), made, pictures, (1.0, 0.5), "cpu")
    asked = {kind: count for kind, (_, count) in lesson.right(pictures, 32).items()}
    assert asked == {"counting": 6 * 3, "digits": 6, "grid": 6, toys.PART: 6 * 3}


def test_a_dry_run_on_a_cpu_writes_a_checkpoint(tmp_path: Path) -> None:
    folder, out = str(tmp_path / "pool"), str(tmp_path / "twin")
    _run("draw", folder, "--share", "0.001", "--workers", "1")
    words = ["pooled", "moondream", "--pool", folder, "--steps", "2", "--batch", "2"]
    told = _run(*words, "--device", "cpu", "--pace", "plain", "--out", out)
    assert open_model(out).vlm.family == "moondream"
    assert "held out, counting: " in told
    assert "held out, points: " in told


def _run(*words: str) -> str:
    """As a process of its own: a training settles torch for all of it."""
    command = [sys.executable, "-m", "models.train", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
