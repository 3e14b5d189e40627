"""Answers a task's test questions with a checkpoint, through transformers' public interface.

    python -m models.train.evaluate models/tiny-smolvlm

bfloat16 weights are loaded in float32; answers are greedy. NOT aware of training.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from models.train.task import Example, Question
from models.train.tasks import TASKS
from models.train.validation import wilson


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m models.train.evaluate", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--task", choices=TASKS, default="easy-vqa")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    task = TASKS[arguments.task]
    examples = task.examples("test")
    processor = AutoProcessor.from_pretrained(arguments.folder)  # type: ignore[no-untyped-call]
    model = AutoModelForImageTextToText.from_pretrained(arguments.folder, dtype=torch.float32)
    baseline = majority_answers(task.examples("train"))
    tables: dict[str, Counter[str]] = defaultdict(Counter)
    for example in examples:
        for question, answer in zip(
            example.questions, answers(model, processor, example), strict=True
        ):
            for kind in (question.kind, "all"):
                tables["asked"][kind] += 1
                tables["right"][kind] += answer == question.answer
                tables["baseline"][kind] += baseline.get(question.text) == question.answer
    print("\n".join(table(tables)))


@torch.no_grad()
def answers(model: Any, processor: Any, example: Example) -> list[str]:
    """Greedy answers to all questions of one image, one prompt each, in one padded batch."""
    image = Image.fromarray(example.pixels)
    prompts = [
        processor.apply_chat_template(_conversation(question), add_generation_prompt=True)
        for question in example.questions
    ]
    batch = processor(
        text=prompts,
        images=[[image]] * len(prompts),
        padding=True,
        padding_side="left",
        return_tensors="pt",
    )
    generated = model.generate(**batch, max_new_tokens=8, do_sample=False)
    texts = processor.batch_decode(
        generated[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
    )
    return [text.strip() for text in texts]


def majority_answers(examples: Iterable[Example]) -> dict[str, str]:
    """The most frequent train answer of each question's text: what can be known with no image."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for example in examples:
        for question in example.questions:
            counts[question.text][question.answer] += 1
    return {text: count.most_common(1)[0][0] for text, count in counts.items()}


def table(tables: dict[str, Counter[str]]) -> list[str]:
    """Markdown rows: kind, number of questions, accuracy, 95 % interval, baseline."""
    rows = [
        "| questions | n | accuracy | 95 % interval | majority answer |",
        "|---|---:|---:|---|---:|",
    ]
    for kind, asked in sorted(tables["asked"].items()):
        right = tables["right"][kind]
        low, high = wilson(right, asked)
        baseline = tables["baseline"][kind] / asked
        rows.append(
            f"| {kind} | {asked:,} | {right / asked:.2%} ({right:,}) "
            f"| {low:.2%} to {high:.2%} | {baseline:.2%} |"
        )
    return rows


def _conversation(question: Question) -> list[dict[str, Any]]:
    content = [{"type": "image"}, {"type": "text", "text": question.text}]
    return [{"role": "user", "content": content}]


if __name__ == "__main__":
    main()
