"""Public data sets as tasks: each is described by a file of bench/tasks/data_sets/.

The file names the columns from which a row of the data set becomes a question.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import yaml

from bench.options import QuestionOptions, SampleOptions
from bench.record import Outcome
from bench.scorers import Gold
from bench.scorers.choice import shuffled
from bench.tasks import Context
from bench.tasks.asking import How, ask
from bench.tasks.public_rows import DatasetLocation, DatasetRow, DatasetRows
from bench.tasks.questions import LazyImage, QuestionSet, TaskQuestion, Turn, UnusableQuestion
from export.decode import decode

FOLDER = Path(__file__).parent / "data_sets"


@dataclass(frozen=True)
class Columns:
    """Names of a data set's columns. `options`: columns of one option each, or one of a list."""

    question: str
    answers: str
    images: tuple[str, ...]
    id: str | None = None
    picture: str | None = None
    """Equal for rows with the same image."""
    options: tuple[str, ...] = ()
    hint: str | None = None
    kind: str | None = None
    part: str | None = None

    def needed(self) -> tuple[str, ...]:
        """Columns that every row must have: one image, two options, and no hint."""
        one = (self.question, self.answers, self.images[0], *self.options[:2])
        return (*one, *(name for name in (self.id, self.kind, self.part) if name))


@dataclass(frozen=True)
class PublicTask:
    """The content of one file of the folder."""

    summary: str
    dataset: str
    split: str
    columns: Columns
    prompt: str
    """Template with {question}, {options} and {hint}."""
    max_tokens: int
    scorer: str
    config: str | None = None
    revision: str | None = None
    open_prompt: str | None = None
    """Template for questions without options, in data sets with both kinds."""
    circular: bool = False
    """Whether a question counts only if it is answered under every rotation of its options."""


def run(context: Context, options: QuestionOptions) -> Outcome:
    """Ask the questions of the context's task."""
    name = context.case.task
    task = public_tasks()[name]
    how = How(task.prompt, task.max_tokens, task.scorer)
    return ask(context, options, questions(name, options), how)


def check(name: str, options: SampleOptions) -> None:
    """Open local data, without asking. Raises UserError if that fails."""
    if options.data is not None:
        _table(name, options.data)


@lru_cache(maxsize=1)
def public_tasks() -> Mapping[str, PublicTask]:
    """All public tasks by name."""
    return {
        file.stem: decode(PublicTask, yaml.safe_load(file.read_text(encoding="utf-8")))
        for file in sorted(FOLDER.glob("*.yaml"))
    }


def questions(name: str, options: SampleOptions) -> QuestionSet:
    """The questions of a task. Raises UserError for data that cannot be opened."""
    task = public_tasks()[name]
    table, location = _table(name, options.data)
    reader = _Reader(task, table)
    return QuestionSet(str(location), reader.pictures, reader.question)


def _table(name: str, data: str | None) -> tuple[DatasetRows, DatasetLocation]:
    task = public_tasks()[name]
    folder = Path(data) if data else None
    if folder is not None and (folder / name).is_dir():
        folder = folder / name
    location = DatasetLocation(task.dataset, task.config, task.split, task.revision, folder)
    return DatasetRows(location, task.columns.needed()), location


class _Reader:
    """Turns the rows of one task into questions."""

    def __init__(self, task: PublicTask, table: DatasetRows) -> None:
        self._task, self._table, self._columns = task, table, task.columns
        self.pictures = _distinct(table, task.columns.picture)
        ids = _distinct(table, task.columns.id)
        unique = len(set(ids)) == len(ids)
        # Journals and comparisons identify items by their ids, so ids must be unique.
        self._ids = ids if unique else [f"{id_}#{row}" for row, id_ in enumerate(ids)]

    def question(self, number: int) -> TaskQuestion:
        """Raises UnusableQuestion, with file, row and column."""
        row, id_ = self._table.row(number), self._ids[number]
        if row is None:
            raise UnusableQuestion(id_, f"{self._table.where(number)}: not a JSON object")
        try:
            return self._question(number, row, id_)
        except _Wrong as wrong:
            where = self._table.where(number, wrong.column)
            raise UnusableQuestion(id_, f"{where}: {wrong}") from wrong

    def _question(self, number: int, row: DatasetRow, id_: str) -> TaskQuestion:
        options = self._options(row)
        answers = self._answers(row, options)
        text, hint = self._text(row, self._columns.question), self._hint(row)
        kind = str(row.get(self._columns.kind, "")) if self._columns.kind else ""
        prompt = self._task.prompt
        if self._task.open_prompt is not None and not options:
            prompt = self._task.open_prompt
        turns = []
        for n in range(len(options) if self._task.circular else 1):
            moved, right = (options, answers)
            if self._task.circular:
                moved, letter = shuffled(options, answers[0], n)
                right = (letter,)
            listed = "\n".join(f"{ascii_uppercase[n]}. {option}" for n, option in enumerate(moved))
            asked = prompt.format(question=text, options=listed, hint=hint)
            turns.append(Turn(asked, Gold(right, moved, kind, key=id_)))
        part = str(row.get(self._columns.part, "")) if self._columns.part else ""
        return TaskQuestion(id_, tuple(turns), self._pictures(number, row), part)

    def _pictures(self, number: int, row: DatasetRow) -> tuple[LazyImage, ...]:
        key = self.pictures[number]
        first, *others = self._columns.images
        names = [first, *(name for name in others if row.get(name) is not None)]
        return tuple(
            LazyImage(f"{key}/{name}", lambda name=name: self._table.image(number, name))  # type: ignore[misc]
            for name in names
        )

    def _text(self, row: DatasetRow, column: str) -> str:
        value = row.get(column)
        if not isinstance(value, str) or not value.strip():
            raise _Wrong(column, "a string", value)
        return value.strip()

    def _hint(self, row: DatasetRow) -> str:
        value = row.get(self._columns.hint) if self._columns.hint else None
        return f"{value}\n" if _present(value) else ""

    def _options(self, row: DatasetRow) -> tuple[str, ...]:
        names = self._columns.options
        if not names:
            return ()
        if len(names) > 1:
            # Letters follow the order of the columns, so only the last ones may be empty.
            there = [name for name in names if _present(row.get(name))]
            empty = next((name for name in names if name not in there), None)
            if empty is not None and (len(there) < 2 or names.index(empty) < len(there)):
                raise _Wrong(empty, "an option", row.get(empty))
            return tuple(str(row[name]) for name in there)
        value = _listed(row.get(names[0]))
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise _Wrong(names[0], "a list of strings", value)
        return tuple(value)

    def _answers(self, row: DatasetRow, options: tuple[str, ...]) -> tuple[str, ...]:
        column = self._columns.answers
        value = row.get(column)
        if options:
            return (_letter(value, options, column),)
        # Only MMMU writes lists as text; elsewhere brackets are part of the answer.
        found = _listed(value) if self._task.scorer == "mmmu" else value
        texts = [_answer(one) for one in (found if isinstance(found, list) else [found])]
        whole = tuple(text for text in texts if text is not None)
        if not whole or len(whole) < len(texts):
            raise _Wrong(column, "a string, or a list of strings", value)
        if self._task.scorer == "yes-no":
            whole = tuple(text.strip().lower() for text in whole)
            if not set(whole) <= {"yes", "no"}:
                raise _Wrong(column, "yes or no", value)
        return whole


class _Wrong(Exception):
    """A value that its column should not contain."""

    def __init__(self, column: str, expected: str, found: object) -> None:
        super().__init__(
            f"expected {expected}, found {'nothing' if found is None else f'{found!r:.60}'}"
        )
        self.column = column


def _distinct(table: DatasetRows, column: str | None) -> list[str]:
    """The column's values as strings; the row's number where there is none."""
    values = table.column(column) if column in table.columns() else [None] * len(table)
    return [str(n) if value is None else str(value) for n, value in enumerate(values)]


def _answer(value: object) -> str | None:
    """The string of an answer, or of VQA's {"answer": string}; None for anything else."""
    if isinstance(value, Mapping):
        value = value.get("answer")
    return value if isinstance(value, str) else None


def _letter(value: object, options: tuple[str, ...], column: str) -> str:
    """The letter of an answer that is a letter, or an index from 0. Raises _Wrong."""
    letters = ascii_uppercase[: len(options)]
    if isinstance(value, str) and value.strip() in tuple(letters):
        return value.strip()
    if isinstance(value, int | str) and str(value).isdecimal() and int(value) < len(letters):
        return letters[int(value)]
    raise _Wrong(column, f"a letter up to {letters[-1:] or 'A'}, or an index from 0", value)


def _listed(value: Any) -> Any:
    """The list that a string contains in Python's notation (MMMU), else the value itself."""
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return value
    return value


def _present(value: object) -> bool:
    """False for a missing option or hint: None, an empty string, or pandas' nan."""
    return value is not None and str(value).strip().lower() not in ("", "nan")
