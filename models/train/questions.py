"""Questions of the train splits as files, for `python -m export … --calibrate QUESTIONS.jsonl`.

`python -m models.train.questions FOLDER --task latin --task easy-vqa` writes FOLDER/questions.jsonl
and the pictures beside it. NOT aware of models or of what the questions are used for.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from PIL import Image

from bench.tasks.scenes import GENERATORS, scenes
from models.train import easy_vqa

EASY_VQA = "easy-vqa"
QUESTIONS_AN_IMAGE = 2


def asked(task: str, count: int) -> Iterator[tuple[Image.Image, str, str]]:
    """Pictures of a task's train split with up to two questions each and their answers."""
    if task == EASY_VQA:
        for example in islice(easy_vqa.examples("train"), count):
            image = Image.fromarray(example.pixels)
            for question in example.questions[:QUESTIONS_AN_IMAGE]:
                yield image, question.text, question.answer
        return
    for scene in scenes(task, "train", count):
        for one in scene.asked[:QUESTIONS_AN_IMAGE]:
            yield scene.image, one.question, one.answer


def write(folder: Path, tasks: Sequence[str], images: int) -> Path:
    """Pictures and `questions.jsonl` of so many images of each task; the path of the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for task in tasks:
        for image, question, answer in asked(task, images):
            name = f"{task}-{len(lines)}.png"
            image.save(folder / name)
            lines.append(json.dumps({"question": question, "image": name, "answer": answer}))
    file = folder / "questions.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description="Write questions of the train splits as files.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--task", action="append", required=True, choices=[EASY_VQA, *GENERATORS])
    parser.add_argument("--images", type=int, default=32, help="of each task (default 32)")
    arguments = parser.parse_args()
    write(arguments.folder, arguments.task, arguments.images)


if __name__ == "__main__":
    main()
