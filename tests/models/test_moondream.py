"""The training forward of tiny-moondream against the runtime that will answer with its files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from one_question import scored_logits
from PIL import Image
from tokenizers import Tokenizer

from export.checkpoint.registry import open_model
from models.train import moondream
from models.train.moondream_model import Moondream, image_tokens
from models.train.packing import Packer
from models.train.task import Question
from runtimes.base import Request
from runtimes.reference import open_session

QUESTIONS = (
    Question("what color is the shape?", "red", "colour"),
    Question("how many shapes are there?", "5", "counting"),
)
IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    letters = "abcdefghijklmnopqrstuvwxyz"
    pairs = [f"{first}{second}" for first in letters for second in letters]
    return moondream.tokenizer([*pairs, *(question.text for question in QUESTIONS)] * 5)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Moondream:
    """Freshly initialised, with weights that a checkpoint's bfloat16 holds exactly."""
    torch.manual_seed(0)
    made = Moondream(tokenizer)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_((parameter * 3).bfloat16())
    return made


@torch.no_grad()
def test_a_question_gets_the_logits_that_the_reference_computes(
    model: Moondream, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    moondream.write(model, tokenizer, tmp_path)
    session = open_session(open_model(str(tmp_path)), threads=1)
    packer = Packer(moondream.PROMPT, moondream.FAMILY.grid**2, tokenizer)
    pixels = torch.from_numpy(IMAGE).permute(2, 0, 1)[None] / 127.5 - 1
    images = image_tokens(model, pixels)
    for question in QUESTIONS:
        logits, labels = scored_logits(moondream.FAMILY, model, packer, images, question)
        ids = tokenizer.encode(f" {question.answer}").ids
        answer = (*ids, model.vlm.stop_token_ids[0])
        request = Request(question.text, (Image.fromarray(IMAGE),), answer=answer, arrays=True)
        events = session.generate(request)
        expected = [event.logits for event in events if event.token is not None]
        assert len(expected) == len(labels) >= 2
        np.testing.assert_allclose(logits.numpy(), np.stack(expected), atol=2e-5, rtol=1e-4)
