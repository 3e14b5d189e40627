"""The task on the test split of easy-VQA (PyPI `easy-vqa`, MIT): questions on coloured shapes."""

from importlib.metadata import version

from bench.options import QuestionOptions
from bench.record import Outcome
from bench.scorers import Gold
from bench.tasks import Context
from bench.tasks.asking import How, ask
from bench.tasks.questions import LazyImage, QuestionSet, TaskQuestion, Turn
from runtimes.prepare.request import load_image

HOW = How(prompt="{question}", max_tokens=8, scorer="exact")


def run(context: Context, options: QuestionOptions) -> Outcome:
    """Asks all questions, or a sample of `options.limit`, and scores the answers."""
    return ask(context, options, questions(), HOW)


def questions() -> QuestionSet:
    """Returns all questions, image by image; the id `12/0` is question 0 about image 12."""
    import easy_vqa

    paths = easy_vqa.get_test_image_paths()
    of_image: dict[int, list[tuple[str, str]]] = {number: [] for number in sorted(paths)}
    for text, answer, number in zip(*easy_vqa.get_test_questions(), strict=True):
        of_image[number].append((text, answer))
    rows = [
        (f"{number}/{n}", paths[number], text, answer)
        for number, asked in of_image.items()
        for n, (text, answer) in enumerate(asked)
    ]

    def question(number: int) -> TaskQuestion:
        id_, path, text, answer = rows[number]
        picture = LazyImage(path, lambda: load_image(path))
        return TaskQuestion(id_, (Turn(text, Gold((answer,))),), (picture,))

    return QuestionSet(f"easy-vqa {version('easy-vqa')}", [path for _, path, *_ in rows], question)
