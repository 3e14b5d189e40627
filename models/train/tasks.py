"""The tasks a twin can be trained on. A new task is one more module and one more row."""

from models.train import easy_vqa, toys
from models.train.task import Task

TASKS = {
    "easy-vqa": Task(
        examples=easy_vqa.examples,
        shown=easy_vqa.shown,
        attributes=lambda grid: [1 + len(easy_vqa.SHAPES), 1 + len(easy_vqa.COLOURS)],
        cell_labels=lambda example, pixels, grid: easy_vqa.cell_labels(pixels, grid),
    ),
    "toys": Task(
        examples=toys.examples,
        shown=toys.shown,
        attributes=toys.attributes,
        cell_labels=toys.cell_labels,
        by_kind=True,
        spelled=frozenset({"latin", "hangul", "part of a text"}),
    ),
}
