"""The same requests answered one by one and at once, on the bundled models."""

from collections.abc import Sequence

from export.arrays import FloatArray
from runtimes.base import Request
from runtimes.proof.probes import probes
from runtimes.session.loop import GreedySession

TWINS = ("tiny-smolvlm", "tiny-gemma3", "tiny-qwen2.5-vl", "tiny-moondream")
QUESTIONS = ("what color is the shape?", "is there a circle?", "how many shapes are there in it?")

Answer = list[tuple[int, FloatArray]]


def one_by_one(session: GreedySession, asked: Sequence[Request]) -> list[Answer]:
    return [
        [(e.token, e.logits) for e in session.generate(request) if e.token is not None]
        for request in asked
    ]


def at_once(session: GreedySession, asked: Sequence[Request]) -> list[Answer]:
    found: list[Answer] = [[] for _ in asked]
    for number, event in session.generate_each(asked):
        if event.token is not None:
            found[number].append((event.token, event.logits))
    return found


def of_one_image(tokens: int = 6) -> list[Request]:
    """Several questions, as long as they are, and one of them twice."""
    images = probes(64)[0].images
    asked = (*QUESTIONS, QUESTIONS[1])
    return [Request(q, images, max_tokens=tokens, arrays=True) for q in asked]
