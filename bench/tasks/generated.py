"""Tasks on images that bench.tasks.scenes generates from a seed, in its test split."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from bench.options import QuestionOptions
from bench.record import Outcome
from bench.scorers import Gold
from bench.tasks import Context
from bench.tasks.asking import How, ask
from bench.tasks.questions import LazyImage, QuestionSet, TaskQuestion, Turn
from bench.tasks.scenes import GENERATORS, Scene, scenes

COUNT = 500  # scenes of a task, unless its generator has fewer


@dataclass(frozen=True)
class GeneratedTask:
    """How the questions about one kind of generated images are asked and scored.

    `max_tokens` limits an answer; `scorer` is a name of SCORERS. A model with a built-in task
    `model_task` (such as `detect`) is asked by it.
    """

    max_tokens: int
    scorer: str = "exact"
    model_task: str = ""


GENERATED_TASKS: Mapping[str, GeneratedTask] = {
    "counting": GeneratedTask(8),
    "grid": GeneratedTask(8),
    "boxes": GeneratedTask(24, "iou", "detect"),
    "points": GeneratedTask(16, "point", "point"),
    "digits": GeneratedTask(8),
    "handwritten": GeneratedTask(8),
    "latin": GeneratedTask(12),
    "hangul": GeneratedTask(12),
    "ocr-english": GeneratedTask(24),
    "ocr-korean": GeneratedTask(24),
}


def run(context: Context, options: QuestionOptions) -> Outcome:
    """Asks about the generated images of the task `context.case.task`, and scores the answers."""
    name = context.case.task
    kind = GENERATED_TASKS[name]
    how = How("{question}", kind.max_tokens, kind.scorer)
    return ask(context, options, questions(name, options.seed), how)


def questions(name: str, seed: int = 0) -> QuestionSet:
    """Returns the questions about the generated images of a task, image by image.

    Equal seeds give equal questions. An id, such as `12/0`, is the image's number and the
    question's index.
    """
    generator, kind = GENERATORS[name], GENERATED_TASKS[name]
    counts = _counts(name, seed)
    pairs = [(number, n) for number, count in enumerate(counts) for n in range(count)]

    @lru_cache(maxsize=2)  # the questions of a scene follow each other
    def scene(number: int) -> Scene:
        return next(scenes(name, "test", 1, seed, first=number))

    def question(index: int) -> TaskQuestion:
        number, n = pairs[index]
        one = scene(number).asked[n]
        gold = Gold((one.answer,), regions=one.regions)
        picture = LazyImage(str(number), lambda: scene(number).image)
        turns = (Turn(one.question, gold),)
        return TaskQuestion(f"{number}/{n}", turns, (picture,), "", one.subject, kind.model_task)

    source = f"made: {name} version {generator.version}, seed {seed}"
    return QuestionSet(source, [str(number) for number, _ in pairs], question)


def _counts(name: str, seed: int) -> list[int]:
    """Returns the number of questions of each image; images are drawn only if it varies."""
    generator = GENERATORS[name]
    count = generator.most or COUNT
    if generator.asked is not None:
        return [generator.asked] * count
    return [len(scene.asked) for scene in scenes(name, "test", count, seed)]
