"""llama.cpp answers questions without an image like the reference, for every family."""

from pathlib import Path

import numpy as np
import pytest
from tiny_models import QWEN_CASES, hf_model, tiny_artifact, tiny_model

from export.arrays import FloatArray
from export.checkpoint.registry import open_model
from export.model import Model
from runtimes import RUNTIMES
from runtimes.base import Request, Session
from runtimes.proof.fidelity import Accumulator

pytest.importorskip("llama_cpp")

TWINS = ("tiny-smolvlm", "tiny-gemma3", "tiny-qwen2.5-vl")
INTERNVL = "a class token, narrow rows, positions divided by 4"  # with images: test_internvl
# Random models; the other cases have an attention scale that llama.cpp does not support.
RANDOM = (*QWEN_CASES, INTERNVL, "text alone", "text alone, every other layer local")
QUESTIONS = ("what is it?", "", "How many 12 34\n\nare there; and why? " * 5)
STEPS = 24
# Largest mean divergence in nats. ggml rounds the inputs of quantized weights to 8 bits.
KLD = {"fp16": 1e-4, "int8": 1e-2}


def opened(name: str) -> Model:
    return open_model(name) if name in TWINS else tiny_model(hf_model(name))


def sessions(name: str, recipe: str, folder: Path) -> tuple[Session, Session]:
    """Sessions of the reference and of llama.cpp, for questions without images."""
    model = opened(name)
    layout = "onnx-vision" if model.vlm.vision else "native"
    artifact = tiny_artifact(model, "gguf", recipe, folder, layout)
    return (
        RUNTIMES["reference"].open_session(model, threads=1),
        RUNTIMES["llama_cpp"].open_session(artifact, threads=1),
    )


def logits(session: Session, question: str, answer: tuple[int, ...]) -> list[FloatArray]:
    request = Request(question, answer=answer, arrays=True)
    return [e.logits for e in session.generate(request) if e.logits is not None]


@pytest.mark.parametrize("recipe", KLD)
@pytest.mark.parametrize("name", [*TWINS, *RANDOM])
def test_distributions_equal_the_reference(name: str, recipe: str, tmp_path: Path) -> None:
    reference, ours = sessions(name, recipe, tmp_path)
    answer = tuple(int(n) for n in np.random.default_rng(0).integers(10, 300, STEPS))
    found = Accumulator()
    for question in QUESTIONS:
        both = logits(reference, question, answer), logits(ours, question, answer)
        for wanted, logit in zip(*both, strict=True):
            found.add(wanted, logit)
    result = found.result()
    assert result is not None
    assert result.n == len(QUESTIONS) * STEPS
    assert result.mean_kld <= KLD[recipe]


@pytest.mark.parametrize("name", [*TWINS, *RANDOM])
def test_greedy_answers_equal_the_reference(name: str, tmp_path: Path) -> None:
    answers = [
        [
            [event.token for event in session.generate(Request(question, max_tokens=STEPS))]
            for question in QUESTIONS
        ]
        for session in sessions(name, "fp16", tmp_path)
    ]
    assert answers[0] == answers[1]
