"""Pictures of many tasks as arrays, drawn ahead by worker processes, so that they fit on a GPU.

Every different question is kept once. NOT aware of models, tokenizers or devices.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from bench.tasks.scenes import Thing, scenes
from bench.tasks.scenes.drawing import COLOURS, SHAPES
from models.train import easy_vqa, toys
from models.train.task import Example, Question

EASY_VQA = "easy-vqa"
BOXES = "boxes"
# Pictures of each kind. easy-VQA's 3,600 are moved and mirrored anew each time.
COUNTS = {
    EASY_VQA: 64800,
    "counting": 48000,
    "grid": 12000,
    "digits": 16000,
    "handwritten": 10000,
    "latin": 32000,
    "hangul": 30000,
    BOXES: 40000,
}
HELD_OUT = 400
"""Of each kind, to validate on: easy-VQA's last train images, scenes that follow those drawn."""
NAMES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
MOST_THINGS = 3
"""In a picture of BOXES."""
NONE = -1
CHUNK = 250


@dataclass(frozen=True)
class Pool:
    """N pictures.

    `kinds` (N,) indexes COUNTS. `pixels` (N, 64, 64, 3) and `fields` (N, 8, 8, 6), the labels of
    toys.field_labels, are uint8. `asked` (N, most) indexes `questions`. `named` (N, MOST_THINGS)
    indexes NAMES where places can be asked for, `boxes` (N, MOST_THINGS, 4) are in shares. Where
    there is no question or thing stands NONE.
    """

    kinds: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    fields: NDArray[np.uint8]
    asked: NDArray[np.int32]
    named: NDArray[np.int32]
    boxes: NDArray[np.float32]
    questions: tuple[Question, ...]

    def of_kinds(self, kinds: tuple[str, ...]) -> NDArray[np.int64]:
        """Which pictures are of these kinds."""
        wanted = [list(COUNTS).index(kind) for kind in kinds]
        return np.flatnonzero(np.isin(self.kinds, wanted))


Drawn = tuple[NDArray[np.uint8], NDArray[np.uint8], list[Example]]


def pools(share: float, workers: int) -> tuple[Pool, Pool]:
    """What is trained on, and what is held out: a share of the pictures of each kind."""
    counts = {kind: round(share * count) for kind, count in COUNTS.items()}
    kept = max(1, round(share * HELD_OUT))
    jobs = [
        (kind, first, min(CHUNK, count - first), False)
        for kind, count in counts.items()
        for first in range(0, count, CHUNK)
    ]
    held_out = [(kind, counts[kind], kept, True) for kind in counts]
    with ProcessPoolExecutor(workers) as executor:
        trained = _joined(jobs, executor.map(_drawn, *zip(*jobs, strict=True)))
        return trained, _joined(held_out, executor.map(_drawn, *zip(*held_out, strict=True)))


def save(pool: Pool, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("kinds", "pixels", "fields", "asked", "named", "boxes"):
        np.save(folder / f"{name}.npy", getattr(pool, name))
    rows = [(q.text, q.answer, q.kind) for q in pool.questions]
    (folder / "questions.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")


def load(folder: Path) -> Pool:
    rows = json.loads((folder / "questions.json").read_text(encoding="utf-8"))
    arrays = (
        np.load(folder / f"{name}.npy")
        for name in ("kinds", "pixels", "fields", "asked", "named", "boxes")
    )
    return Pool(*arrays, tuple(Question(*row) for row in rows))


Job = tuple[str, int, int, bool]


def _joined(jobs: list[Job], drawn: Iterator[Drawn]) -> Pool:
    """One pool of all jobs' pictures, in their order."""
    pixels, fields, examples, kinds = [], [], [], []
    for (kind, *_), (some_pixels, some_fields, some_examples) in zip(jobs, drawn, strict=True):
        pixels.append(some_pixels)
        fields.append(some_fields)
        examples += some_examples
        kinds += [list(COUNTS).index(kind)] * len(some_examples)
    known: dict[Question, int] = {}
    most = max(len(example.questions) for example in examples)
    asked = np.full((len(examples), most), NONE, np.int32)
    named = np.full((len(examples), MOST_THINGS), NONE, np.int32)
    boxes = np.zeros((len(examples), MOST_THINGS, 4), np.float32)
    for row, (example, kind) in enumerate(zip(examples, kinds, strict=True)):
        found = [known.setdefault(question, len(known)) for question in example.questions]
        asked[row, : len(found)] = found
        if kind == list(COUNTS).index(BOXES):
            for column, thing in enumerate(example.things):
                named[row, column], boxes[row, column] = NAMES.index(thing.name), thing.box
    return Pool(
        np.array(kinds), np.concatenate(pixels), np.concatenate(fields), asked, named, boxes,
        tuple(known),
    )  # fmt: skip


def _drawn(kind: str, first: int, count: int, held_out: bool) -> Drawn:
    """Pictures `first` to `first + count` of a kind as they are shown."""
    numbers = range(first, first + count)
    if kind == EASY_VQA:
        read = _easy_vqa(held_out)
        examples = [read[number % len(read)] for number in numbers]
    else:
        examples = [toys.example(scene) for scene in scenes(kind, "train", count, first=first)]
    seed = np.random.default_rng
    pixels = [
        example.pixels if held_out else toys.shown(example, seed((crc32(kind.encode()), number)))
        for number, example in zip(numbers, examples, strict=True)
    ]
    fields = [
        toys.seen_labels(example, shown) for example, shown in zip(examples, pixels, strict=True)
    ]
    return np.stack(pixels), np.stack(fields).astype(np.uint8), [_bare(e) for e in examples]


def _bare(example: Example) -> Example:
    """Without pixels, which travel between processes once."""
    things = tuple(Thing(thing.name, thing.box) for thing in example.things)
    return Example(np.zeros(0, np.uint8), example.questions, things)


@lru_cache
def _easy_vqa(held_out: bool) -> list[Example]:
    examples = easy_vqa.examples("train")
    return examples[-HELD_OUT:] if held_out else examples[:-HELD_OUT]
