"""Asks a model the questions of a task and scores the answers.

Questions about one image follow each other, so that their image features and common prompt prefix
are reused; a runtime that can do so answers them in one batch. Each answer is written to the
journal immediately, and so is the reason why a question could not be used.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import cast

from PIL import Image

from bench.measure import timed
from bench.options import QuestionOptions
from bench.record import BadItem, Evaluation, Item, Outcome
from bench.scorers import SCORERS
from bench.scorers.regions import written
from bench.subjects import detokenizer, prompt_of
from bench.tasks import Context
from bench.tasks.journal import Journal
from bench.tasks.questions import (
    LazyImage,
    QuestionSet,
    TaskQuestion,
    Turn,
    UnusableQuestion,
    chosen,
)
from export.errors import UserError
from export.prompts import Templates
from runtimes import RUNTIMES
from runtimes.base import BatchSession, Event, Request
from runtimes.prepare.image import note_of

STEPS = 50  # number of progress reports
OF_ONE_IMAGE = 16  # most questions about one image in a batch


@dataclass(frozen=True)
class How:
    """How the questions of a task are asked and scored.

    `prompt` is the template, which is recorded; `max_tokens` limits an answer; `scorer` is a name
    of SCORERS.
    """

    prompt: str
    max_tokens: int
    scorer: str


def ask(context: Context, options: QuestionOptions, questions: QuestionSet, how: How) -> Outcome:
    """Asks the questions that `options` choose (all, a sample, a shard) and scores the answers.

    Questions in the context's journal, answered earlier, are not asked again. Raises UserError if
    no question can be used.
    """
    journal = context.journal
    indices = chosen(questions.pictures, options.limit, options.seed, options.shard)
    if not indices:
        raise UserError(
            f"{questions.source}: shard {options.shard} has no questions; use fewer shards"
        )
    already = len(journal.items) + len(journal.bad)
    asker = _Asker(context, options, how)
    _, asked_s = timed(lambda: _ask(asker, questions, indices))
    if not journal.items:
        first = journal.bad[0]
        raise UserError(f"none of {len(indices):,} items can be used; the first: {first.reason}")
    evaluation = Evaluation(
        prompt=how.prompt,
        max_tokens=how.max_tokens,
        scorer=how.scorer,
        scorer_version=SCORERS[how.scorer].version,
        source=questions.source,
        asked=len(journal.items) + len(journal.bad) - already,
        asked_s=asked_s,
        bad=tuple(journal.bad),
        notes=_counted(asker.notes),
    )
    return Outcome(items=tuple(journal.items), evaluation=evaluation)


def _counted(notes: Sequence[str]) -> tuple[str, ...]:
    """Returns one line for the notes about all images: their number and the first; () for none."""
    return (f"{len(notes):,} with a loss, the first: {notes[0]}",) if notes else ()


def _ask(asker: "_Asker", questions: QuestionSet, indices: Sequence[int]) -> None:
    context, journal, step = asker.context, asker.context.journal, max(1, len(indices) // STEPS)
    fits, waiting = _fits(context, asker.options), list[TaskQuestion]()
    for n, index in enumerate(indices):
        if n % step == 0:
            context.notify(f"question {n + 1:,} of {len(indices):,}")
        try:
            question = questions.question(index)
        except UnusableQuestion as bad:
            if bad.id not in journal.known:
                _add(asker, journal, waiting)
                journal.add(BadItem(bad.id, str(bad)))
            continue
        if question.id in journal.known:
            continue
        if waiting and not fits(waiting, question):
            _add(asker, journal, waiting)
        waiting.append(question)
    _add(asker, journal, waiting)


def _fits(
    context: Context, options: QuestionOptions
) -> Callable[[Sequence[TaskQuestion], TaskQuestion], bool]:
    """Returns a function of the questions waiting for a batch and another: may it join them?

    A batch has up to `options.batch` questions. If that is 1, it has up to 16 questions about one
    image on runtimes that answer in batches, and one question on others.
    """
    if options.batch > 1:
        return lambda waiting, _: len(waiting) < options.batch
    if not options.reuse or not RUNTIMES[context.case.runtime].batches:
        return lambda *_: False
    return lambda waiting, question: (
        len(waiting) < OF_ONE_IMAGE and _keys(question) == _keys(waiting[0]) != []
    )


def _keys(question: TaskQuestion) -> list[str]:
    return [picture.key for picture in question.pictures]


def _add(asker: "_Asker", journal: Journal, waiting: list[TaskQuestion]) -> None:
    """Asks the waiting questions, in one batch if possible, else singly, and empties the list."""
    questions = [*waiting]
    waiting.clear()
    try:
        answered = asker.in_one_batch(questions) if len(questions) > 1 else None
    except UserError:  # one of them is bad: asked alone, it gets the error
        answered = None
    if answered is not None:
        for item in answered:
            journal.add(item)
        return
    for question in questions:
        try:
            journal.add(asker.item(question))
        except UnusableQuestion as bad:
            journal.add(BadItem(bad.id, str(bad)))


class _Asker:
    def __init__(self, context: Context, options: QuestionOptions, how: How) -> None:
        self.context, self.options, self._how = context, options, how
        self._score = SCORERS[how.scorer]
        self._text_of = detokenizer(context.loaded)
        prompt = prompt_of(context.loaded)
        self._tasks = prompt.tasks if isinstance(prompt, Templates) else {}
        self._opened: dict[str, Image.Image] = {}
        self.notes: list[str] = []

    def item(self, question: TaskQuestion) -> Item:
        """Asks each turn of a question, up to the first that scores 0, and scores the answers.

        Raises UnusableQuestion if an image or the request cannot be used.
        """
        try:
            images = self._images(question.pictures)
            answers, score = [], 1.0
            for turn in question.turns:
                events = self.context.session.generate(self._request(question, turn, images))
                answers.append(self._answer(events))
                score = min(score, self._score.score(answers[-1], turn.gold))
                if score == 0:
                    break
        except UserError as error:
            raise UnusableQuestion(question.id, f"item {question.id}: {error}") from error
        return self._scored(question, answers, score)

    def in_one_batch(self, questions: Sequence[TaskQuestion]) -> list[Item] | None:
        """Asks all questions in one batch and scores the answers.

        Returns None, without asking, if one has several turns or needs a built-in task of the
        model. Raises UserError if a question cannot be used.
        """
        if any(len(q.turns) > 1 or q.model_task in self._tasks for q in questions):
            return None
        every = self._images([picture for q in questions for picture in q.pictures])
        shown, requests = iter(every), []
        for question in questions:
            images = tuple(next(shown) for _ in question.pictures)
            requests.append(self._request(question, question.turns[0], images))
        events: list[list[Event]] = [[] for _ in questions]
        for number, event in cast(BatchSession, self.context.session).generate_each(requests):
            events[number].append(event)
        items = []
        for question, answer_events in zip(questions, events, strict=True):
            answer = self._answer(answer_events)
            score = self._score.score(answer, question.turns[0].gold)
            items.append(self._scored(question, [answer], score))
        return items

    def _scored(self, question: TaskQuestion, answers: Sequence[str], score: float) -> Item:
        return Item(
            question.id,
            "\n".join(answers),
            score >= self._score.right_from,
            score if self._score.graded else None,
            question.part,
            question.turns[0].gold.answers,
        )

    def _images(self, pictures: Sequence[LazyImage]) -> tuple[Image.Image, ...]:
        """Returns the opened images; those of the previous question are not opened again."""
        keys = {picture.key for picture in pictures}
        self._opened = {key: image for key, image in self._opened.items() if key in keys}
        for picture in pictures:
            if picture.key not in self._opened:
                image = self._opened[picture.key] = picture.open()
                self.notes += filter(None, [note_of(image)])
        return tuple(self._opened[picture.key] for picture in pictures)

    def _request(
        self, question: TaskQuestion, turn: Turn, images: tuple[Image.Image, ...]
    ) -> Request:
        reuse, most = self.options.reuse, self._how.max_tokens
        key = " ".join(_keys(question))
        request = Request(turn.text, images, max_tokens=most, reuse=reuse, images_key=key)
        if question.model_task in self._tasks:
            request = replace(request, question=question.subject, task=question.model_task)
        return request

    def _answer(self, events: Iterable[Event]) -> str:
        tokens, regions = [], []
        for event in events:
            tokens += [event.token] if event.token is not None else []
            regions += [event.region] if event.kind == "place" else []
        return "; ".join(map(written, regions)) if regions else self._text_of(tokens)
