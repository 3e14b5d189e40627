"""Command line: trains one twin and writes its checkpoint.

python -m models.train smolvlm --out models/tiny-smolvlm
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from models.train.families import FAMILIES
from models.train.task import Example, Task
from models.train.tasks import TASKS
from models.train.training import Course, Recipe, train
from models.train.validation import accuracy, wilson

# Of every prompt: they should be one token each.
CHAT_WORDS = ["User:", "Assistant:"]
RECIPES = {
    "easy-vqa": Recipe(),
    "places": Recipe(
        label_steps=200,
        answer_steps=780,
        answer_decay_steps=1300,
        answer_turns=((430, 650), (550, 780)),
        answer_batch=32,
        bfloat16=True,
    ),
    "reading": Recipe(
        label_steps=500,
        answer_steps=1700,
        answer_decay_steps=2300,
        answer_turns=((1300, 1700),),
        answer_batch=48,
        label_loss_weight=0.2,
        bfloat16=True,
    ),
}


def main() -> None:
    arguments = _parser().parse_args()
    _make_deterministic()
    family, task = FAMILIES[arguments.family], TASKS[arguments.task]
    examples = task.examples("train")
    kept = len(examples) - arguments.held_out
    training, held_out = examples[:kept], examples[kept:]
    steps = {
        name: getattr(arguments, name)
        for name in ("label_steps", "answer_steps")
        if getattr(arguments, name) is not None
    }
    recipe = replace(RECIPES[arguments.task], **steps)
    tokenizer = family.tokenizer([*texts(task, training), *CHAT_WORDS * len(examples)])
    model = train(Course(family, task, tokenizer, training, recipe, arguments.seed, _report))
    family.write(model, tokenizer, arguments.out)
    for kind, (right, asked) in accuracy(family, model, tokenizer, held_out).items():
        low, high = wilson(right, asked)
        _report(f"held out, {kind}: {right}/{asked} = {right / asked:.2%} [{low:.2%}, {high:.2%}]")


def texts(task: Task, examples: list[Example]) -> list[str]:
    """What the tokenizer is trained on."""
    questions = [question for example in examples for question in example.questions]
    return [
        text
        for q in questions
        for text in ([q.text] if q.kind in task.spelled else [q.text, f" {q.answer}"])
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.train", description=__doc__)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("--task", choices=TASKS, default="easy-vqa")
    parser.add_argument("--label-steps", type=int, help="default: the task's")
    parser.add_argument("--answer-steps", type=int, help="default: the task's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--held-out", type=int, default=400, help="train images kept to validate on, the last ones"
    )
    parser.add_argument("--out", type=Path, required=True)
    return parser


def _make_deterministic() -> None:
    """One thread: a sum split over threads is added in another order."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def _report(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
