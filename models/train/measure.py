"""Answers a task's test questions by the reference runtime, whole and rounded to few bits.

    python -m models.train.measure models/tiny-smolvlm --task reading --bits 8 4 3

Prints the accuracy of each kind of question and, for rounded weights, how many answers became
wrong and right, and how far the distributions are along the unrounded model's answers. NOT aware
of training.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from export.model import Model
from export.registry import open_model
from models.train.evaluate import majority_answers
from models.train.rounding import Rounded
from models.train.task import Example, Question, Task
from models.train.tasks import TASKS
from models.train.toys import PART
from models.train.validation import wilson
from runtimes.base import FloatArray, Place, Request, Session
from runtimes.fidelity import Accumulator
from runtimes.prepare import preparer_of
from runtimes.reference import open_session

MAX_TOKENS = 16
OVERLAP = 0.5  # intersection over union from which a box is right


@dataclass
class Kind:
    """What was found about one kind of question, item by item."""

    right: list[bool] = field(default_factory=list)
    baseline: list[bool] = field(default_factory=list)
    rounded: dict[int, list[bool]] = field(default_factory=lambda: defaultdict(list))
    distance: dict[int, Accumulator] = field(default_factory=lambda: defaultdict(Accumulator))


class Asker:
    """The answers of a session of a model, or of an artifact of it."""

    def __init__(self, model: Model, session: Session) -> None:
        self._session = session
        self._text = preparer_of(model).text

    def words(self, image: Image.Image, question: str) -> tuple[str, tuple[int, ...]]:
        request = Request(question, (image,), max_tokens=MAX_TOKENS)
        events = self._session.generate(request)
        ids = tuple(event.token for event in events if event.token is not None)
        return self._text(ids).strip(), ids

    def logits(
        self, image: Image.Image, question: str, answer: tuple[int, ...]
    ) -> list[FloatArray]:
        request = Request(question, (image,), answer=answer, arrays=True)
        events = self._session.generate(request)
        return [event.logits for event in events if event.logits is not None]

    def places(self, image: Image.Image, task: str, name: str) -> list[Place]:
        request = Request(name, (image,), task=task)
        return [e.place for e in self._session.generate(request) if e.kind == "place"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m models.train.measure", description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--limit", type=int, default=1000, help="of questions of each kind")
    parser.add_argument("--bits", type=int, nargs="*", default=[], help="round to, e.g. 8 4 3")
    arguments = parser.parse_args()
    task, model = TASKS[arguments.task], open_model(arguments.folder)
    found = measured(model, task, arguments.limit, arguments.bits)
    print("\n".join(table(found, arguments.bits)))


def measured(model: Model, task: Task, limit: int, bits: list[int]) -> dict[str, Kind]:
    """By kind of question, the first `limit` of each."""
    examples = task.examples("test")
    baseline = majority_answers(task.examples("train"))
    whole = Asker(model, open_session(model, threads=1))
    rounded = {n: Asker(model, open_session(_rounded(model, n), threads=1)) for n in bits}
    found: dict[str, Kind] = defaultdict(Kind)
    for example, question in asked(examples, limit):
        kind, image = found[question.kind], Image.fromarray(example.pixels)
        answer, ids = whole.words(image, question.text)
        kind.right.append(answer == question.answer)
        kind.baseline.append(baseline.get(question.text) == question.answer)
        logits = whole.logits(image, question.text, ids) if bits else []
        for n, asker in rounded.items():
            others = asker.logits(image, question.text, ids)
            for expected, given in zip(logits, others, strict=True):
                kind.distance[n].add(expected, given)
            answer, _ = asker.words(image, question.text)
            kind.rounded[n].append(answer == question.answer)
    if model.vlm.region is not None:
        placed = [example for example in examples if task.has_places(example)]
        for name, judge in (("point", is_inside), ("detect", overlaps)):
            found[name] = _places(placed, name, judge, limit, (whole, rounded))
    return dict(found)


def _rounded(model: Model, bits: int) -> Model:
    return replace(model, weights=Rounded(model.weights, bits))


def asked(examples: list[Example], limit: int) -> Iterator[tuple[Example, Question]]:
    """The first `limit` questions of each kind, all of one image after each other."""
    counts: Counter[str] = Counter()
    for example in examples:
        for question in example.questions:
            if question.kind != PART and counts[question.kind] < limit:
                counts[question.kind] += 1
                yield example, question


def _places(
    examples: list[Example],
    task: str,
    judge: Callable[[Place, Place], bool],
    limit: int,
    askers: tuple[Asker, dict[int, Asker]],
) -> Kind:
    """Exactly one place is expected, of every thing whose name is its own.

    The baseline is the middle of the image, or all of it.
    """
    kind = Kind()
    whole, rounded = askers
    middle = (0.5, 0.5) if task == "point" else (0.0, 0.0, 1.0, 1.0)
    for example, name, box in things(examples):
        if len(kind.right) == limit:
            break
        image = Image.fromarray(example.pixels)

        def is_right(places: list[Place], box: Place = box) -> bool:
            return len(places) == 1 and judge(places[0], box)

        kind.right.append(is_right(whole.places(image, task, name)))
        kind.baseline.append(is_right([middle]))
        for n, asker in rounded.items():
            kind.rounded[n].append(is_right(asker.places(image, task, name)))
    return kind


def things(examples: list[Example]) -> Iterator[tuple[Example, str, Place]]:
    for example in examples:
        names = [thing.name for thing in example.things]
        for thing in example.things:
            if names.count(thing.name) == 1:
                yield example, thing.name, thing.box


def is_inside(point: Place, box: Place) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def overlaps(found: Place, box: Place) -> bool:
    """Whether intersection over union reaches OVERLAP."""
    width = min(found[2], box[2]) - max(found[0], box[0])
    height = min(found[3], box[3]) - max(found[1], box[1])
    common = max(0.0, width) * max(0.0, height)
    areas = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (found, box))
    return common >= OVERLAP * (areas - common)


def table(found: dict[str, Kind], bits: list[int]) -> list[str]:
    """Markdown: the accuracies, then one table of the rounded weights."""
    rows = [
        "| questions | n | accuracy | 95 % interval | baseline |",
        "|---|---:|---:|---|---:|",
    ]
    for name, kind in sorted(found.items()):
        n, right = len(kind.right), sum(kind.right)
        low, high = wilson(right, n)
        rows.append(
            f"| {name} | {n:,} | {right / n:.2%} ({right:,}) | {low:.2%} to {high:.2%} "
            f"| {np.mean(kind.baseline):.2%} |"
        )
    if bits:
        rows += ["", "| questions | bits | accuracy | lost | won | mean KLD | top-1 |"]
        rows += ["|---|---:|---:|---:|---:|---:|---:|"]
    for name, kind in sorted(found.items()):
        rows += [_rounded_row(name, kind, n) for n in bits]
    return rows


def _rounded_row(name: str, kind: Kind, bits: int) -> str:
    whole, rounded = np.array(kind.right), np.array(kind.rounded[bits])
    lost, won = int((whole & ~rounded).sum()), int((~whole & rounded).sum())
    distance = kind.distance[bits].result()
    far = f"{distance.mean_kld:.1e} | {distance.top1:.2%}" if distance else "– | –"
    return f"| {name} | {bits} | {rounded.mean():.2%} | {lost} | {won} | {far} |"


if __name__ == "__main__":
    main()
