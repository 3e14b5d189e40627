"""The tasks a twin can be trained on. A new task is one more module and one more row."""

from functools import partial
from typing import Any

from models.train import easy_vqa, toys
from models.train.task import Task

DRAWN: dict[str, Any] = {
    "shown": toys.shown,
    "by_kind": True,
    "spelled": frozenset({"latin", "hangul", toys.PART}),
}
TASKS = {
    "easy-vqa": Task(
        examples=easy_vqa.examples,
        shown=easy_vqa.shown,
        attributes=lambda grid: [1 + len(easy_vqa.SHAPES), 1 + len(easy_vqa.COLOURS)],
        cell_labels=lambda example, pixels, grid: easy_vqa.cell_labels(pixels, grid),
    ),
    "reading": Task(
        examples=partial(toys.examples, easy_vqa_weight=2, drawn=toys.READING),
        attributes=toys.attributes,
        cell_labels=toys.cell_labels,
        **DRAWN,
    ),
    "places": Task(
        examples=partial(toys.examples, easy_vqa_weight=3, drawn=toys.PLACES),
        attributes=toys.placed_attributes,
        cell_labels=toys.placed_cell_labels,
        has_places=toys.has_places,
        **DRAWN,
    ),
}
