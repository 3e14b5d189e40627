"""What a twin's answers lose when its weights are rounded to few bits.

    python -m models.train.rounded models/tiny-smolvlm --bits 8 4 3 --tasks grid digits

The reference runtime answers the first test questions with weights as they are and rounded to
nearest (see rounding). Printed: accuracy, answers lost and won, and how far the distributions are
along the answers of the weights as they are. NOT aware of training or of artifacts.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from PIL import Image

from bench.tasks.scenes import scenes
from export.arrays import FloatArray
from export.checkpoint.registry import open_model
from export.model import Model
from models.train import easy_vqa
from models.train.plan import WORDS
from models.train.rounding import Rounded
from runtimes.base import Request, Session
from runtimes.prepare.request import preparer_of
from runtimes.proof.fidelity import Accumulator
from runtimes.reference import open_session

MAX_TOKENS = 16


@dataclass(frozen=True)
class Asked:
    image: Image.Image
    question: str
    answer: str


@dataclass
class Found:
    """Of one task at one number of bits, item by item."""

    right: list[bool] = field(default_factory=list)
    distance: Accumulator = field(default_factory=Accumulator)


class Asker:
    """The answers of a session of a model, or of an artifact of it."""

    def __init__(self, model: Model, session: Session) -> None:
        self._session = session
        self._text = preparer_of(model).text

    def words(self, asked: Asked) -> tuple[str, tuple[int, ...]]:
        """The answer's text and tokens."""
        request = Request(asked.question, (asked.image,), max_tokens=MAX_TOKENS)
        events = self._session.generate(request)
        ids = tuple(event.token for event in events if event.token is not None)
        return self._text(ids).strip(), ids

    def logits(self, asked: Asked, answer: tuple[int, ...]) -> list[FloatArray]:
        """Those behind each token of a given answer."""
        request = Request(asked.question, (asked.image,), answer=answer, arrays=True)
        events = self._session.generate(request)
        return [event.logits for event in events if event.logits is not None]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m models.train.rounded", description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--tasks", choices=WORDS, nargs="+", default=WORDS)
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 4, 3])
    parser.add_argument("--limit", type=int, default=200, help="questions of each task")
    arguments = parser.parse_args()
    model = open_model(arguments.folder)
    whole = Asker(model, open_session(model, threads=1))
    rounded = {bits: Asker(_model(model, bits), _session(model, bits)) for bits in arguments.bits}
    print("| task | n | bits | accuracy | lost | won | mean KLD | top-1 |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for task in arguments.tasks:
        right, found = compared(whole, rounded, islice(questions(task), arguments.limit))
        print(f"| {task} | {len(right)} | 32 | {np.mean(right):.1%} | | | | |")
        for bits, one in found.items():
            print(_row(task, right, bits, one), flush=True)


def questions(task: str) -> Iterator[Asked]:
    """The test split, in its order."""
    if task == "easy-vqa":
        for example in easy_vqa.examples("test"):
            image = Image.fromarray(example.pixels)
            yield from (Asked(image, one.text, one.answer) for one in example.questions)
    else:
        for scene in scenes(task, "test", 500):
            yield from (Asked(scene.image, one.question, one.answer) for one in scene.asked)


def compared(
    whole: Asker, rounded: dict[int, Asker], asked: Iterator[Asked]
) -> tuple[list[bool], dict[int, Found]]:
    """Which answers of the whole model are right, and what was found of each rounded one."""
    right: list[bool] = []
    found = {bits: Found() for bits in rounded}
    for one in asked:
        answer, ids = whole.words(one)
        right.append(answer == one.answer)
        expected = whole.logits(one, ids)
        for bits, asker in rounded.items():
            for reference, subject in zip(expected, asker.logits(one, ids), strict=True):
                found[bits].distance.add(reference, subject)
            found[bits].right.append(asker.words(one)[0] == one.answer)
    return right, found


def _model(model: Model, bits: int) -> Model:
    return replace(model, weights=Rounded(model.weights, bits))


def _session(model: Model, bits: int) -> Session:
    return open_session(_model(model, bits), threads=1)


def _row(task: str, right: list[bool], bits: int, found: Found) -> str:
    whole, rounded = np.array(right), np.array(found.right)
    lost, won = int((whole & ~rounded).sum()), int((~whole & rounded).sum())
    distance = found.distance.result()
    far = f"{distance.mean_kld:.1e} | {distance.top1:.1%}" if distance else "– | –"
    return f"| {task} | {len(right)} | {bits} | {rounded.mean():.1%} | {lost} | {won} | {far} |"


if __name__ == "__main__":
    main()
