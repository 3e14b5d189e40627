"""The tasks a twin can be trained on. A new task is one more module and one more row."""

from models.train import easy_vqa
from models.train.task import Task

TASKS = {
    "easy-vqa": Task(
        examples=easy_vqa.examples,
        augment=easy_vqa.augment,
        attributes={"shape": 1 + len(easy_vqa.SHAPES), "colour": 1 + len(easy_vqa.COLOURS)},
        cell_labels=easy_vqa.cell_labels,
    ),
}
