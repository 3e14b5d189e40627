"""Compares an artifact's next-token distributions with its reference model's, on the same prompts.

The reference answers greedily and the artifact is forced along that answer, so that both predict
after the same tokens. Each half is also measured alone: the artifact's image features with the
reference's decoder, and the reference's features with the artifact's decoder.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from bench.options import FidelityOptions
from bench.record import Agreement, BadItem, Outcome
from bench.tasks import Context, easy_vqa, generated, public
from bench.tasks.questions import QuestionSet, UnusableQuestion, chosen
from export.arrays import FloatArray
from export.errors import UserError, unknown
from runtimes.base import Request, Session
from runtimes.proof.fidelity import Accumulator, FeatureAccumulator, surprise

DEFAULT_LIMIT = 100
MAX_TOKENS = 8


def run(context: Context, options: FidelityOptions) -> Outcome:
    """Compares both models on a sample of the questions of the task `options.prompts`.

    Raises UserError if no question can be asked.
    """
    context.notify("loading the reference")
    name, reference = context.open_reference()
    questions = questions_of(options)
    indices = chosen(questions.pictures, options.limit or DEFAULT_LIMIT, options.seed)

    bad: list[BadItem] = []

    def requests() -> Iterator[Request]:
        for n, index in enumerate(indices):
            context.notify(f"comparing prompt {n + 1:,} of {len(indices):,}")
            try:
                question = questions.question(index)
                images = tuple(picture.open() for picture in question.pictures)
            except UnusableQuestion as unusable:
                bad.append(BadItem(unusable.id, str(unusable)))
                continue
            except UserError as unreadable:
                bad.append(BadItem(question.id, str(unreadable)))
                continue
            yield Request(question.turns[0].text, images, max_tokens=MAX_TOKENS, arrays=True)

    agreement = compare(name, reference, context.session, requests())
    reference.close()
    if not agreement.items:
        first = bad[0].reason if bad else "there are none"
        raise UserError(f"none of {len(indices):,} questions can be asked; the first: {first}")
    return Outcome(agreement=replace(agreement, source=questions.source, bad=tuple(bad)))


def questions_of(options: FidelityOptions) -> QuestionSet:
    """Returns the questions of the task that `options.prompts` names.

    Raises UserError for a task without questions, and for data that cannot be opened.
    """
    name = options.prompts
    if name == "easy-vqa":
        return easy_vqa.questions()
    if name in generated.GENERATED_TASKS:
        return generated.questions(name, options.seed)
    if name in public.public_tasks():
        return public.questions(name, options)
    known = ["easy-vqa", *generated.GENERATED_TASKS, *public.public_tasks()]
    raise unknown("task with questions", name, known)


def compare(
    name: str, reference: Session, subject: Session, requests: Iterable[Request]
) -> Agreement:
    """Compares the answers of two sessions to the same requests; `name` is the reference's model.

    Only one answer's logits are in memory at a time.
    """
    comparison = _Comparison(reference, subject)
    for request in requests:
        comparison.add(request)
    return comparison.result(name)


class _Comparison:
    """Accumulates the comparison, request by request: whole model, vision alone, decoder alone."""

    def __init__(self, reference: Session, subject: Session) -> None:
        self._reference, self._subject = reference, subject
        self._whole, self._vision, self._decoder = Accumulator(), Accumulator(), Accumulator()
        self._features = FeatureAccumulator()
        self._klds: list[float] = []
        self._surprises: list[tuple[float, float]] = []
        self._differences: list[int | None] = []

    def add(self, request: Request) -> None:
        answer, expected, expected_rows = _answer(self._reference, request)
        forced = replace(request, answer=answer)
        _, found, rows = _answer(self._subject, forced)
        for token, p, q in zip(answer, expected, found, strict=True):
            _check(p, q)
            self._klds.append(self._whole.add(p, q))
            self._surprises.append((surprise(p, token), surprise(q, token)))
        # The first token where the subject, forced along the reference's answer, would choose
        # another one; None if its own greedy answer is the same.
        self._differences.append(_first_difference(answer, found))
        if expected_rows is not None and rows is not None:
            self._features.add(expected_rows, rows)
            for session, given, total in (
                (self._reference, rows, self._vision),
                (self._subject, expected_rows, self._decoder),
            ):
                _, half, _ = _answer(session, replace(forced, features=given))
                for p, q in zip(expected, half, strict=True):
                    total.add(p, q)

    def result(self, name: str) -> Agreement:
        reference, subject = _perplexities(self._surprises)
        return Agreement(
            reference=name,
            items=len(self._differences),
            equal_answers=self._differences.count(None),
            fidelity=self._whole.result(),
            token_kld=tuple(self._klds),
            perplexity=subject,
            reference_perplexity=reference,
            first_differences=tuple(self._differences),
            features=self._features.result(),
            vision=self._vision.result(),
            decoder=self._decoder.result(),
        )


def _answer(
    session: Session, request: Request
) -> tuple[tuple[int, ...], list[FloatArray], FloatArray | None]:
    """Returns the tokens of an answer, the logits [vocab] that predict each, and image features.

    The features are None for a request without an image.
    """
    tokens, logits, features = [], [], None
    for event in session.generate(request):
        if event.kind == "image":
            features = event.features
        if event.token is not None and event.logits is not None:
            tokens.append(event.token)
            logits.append(event.logits)
    return tuple(tokens), logits, features


def _first_difference(answer: tuple[int, ...], logits: list[FloatArray]) -> int | None:
    differ = (n for n, q in enumerate(logits) if int(np.argmax(q)) != answer[n])
    return next(differ, None)


def _perplexities(
    surprises: list[tuple[float, float]],
) -> tuple[float, float] | tuple[None, None]:
    if not surprises:
        return None, None
    reference, subject = np.mean(surprises, axis=0)
    return math.exp(reference), math.exp(subject)


def _check(p: FloatArray, q: FloatArray) -> None:
    if p.shape != q.shape:
        raise UserError(
            f"the reference has {p.size} tokens in its vocabulary and the artifact {q.size}; "
            "name the checkpoint it was exported from with --reference"
        )
