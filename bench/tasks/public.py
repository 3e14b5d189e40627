"""Tasks on public data sets, each described by a YAML file of bench/tasks/data_sets/.

The file names the columns of the data set that a question is made from.
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
    """Names of the columns of a data set that questions are made from.

    `options` are several columns with one option each, or one column with a list of options.
    `picture` is a column that is equal for rows with the same image. `kind` is the type of question
    for the scorer, `part` the subset for reports. None or (): the data set has no such column.
    """

    question: str
    answers: str
    images: tuple[str, ...]
    id: str | None = None
    picture: str | None = None
    options: tuple[str, ...] = ()
    hint: str | None = None
    kind: str | None = None
    part: str | None = None

    def needed(self) -> tuple[str, ...]:
        """Returns the columns without which the data cannot be used.

        The data may lack hints, image keys, further images, and options after the second."""
        one = (self.question, self.answers, self.images[0], *self.options[:2])
        return (*one, *(name for name in (self.id, self.kind, self.part) if name))


@dataclass(frozen=True)
class PublicTask:
    """A task on a public data set, as its YAML file describes it.

    `dataset`, `config`, `split` and `revision` are those of the Hugging Face hub. `prompt` is a
    template with {question}, {options} and {hint}; `open_prompt` is used instead for questions
    without options. `max_tokens` limits an answer; `scorer` is a name of SCORERS. `circular`: a
    question counts only if it is answered under every rotation of its options.
    """

    summary: str
    dataset: str
    split: str
    columns: Columns
    prompt: str
    max_tokens: int
    scorer: str
    config: str | None = None
    revision: str | None = None
    open_prompt: str | None = None
    circular: bool = False


def run(context: Context, options: QuestionOptions) -> Outcome:
    """Asks the questions of the data set that `context.case.task` names, and scores the answers."""
    name = context.case.task
    task = public_tasks()[name]
    how = How(task.prompt, task.max_tokens, task.scorer)
    return ask(context, options, questions(name, options), how)


def check(name: str, options: SampleOptions) -> None:
    """Opens the data set in the folder `options.data`, if given. Raises UserError if that fails."""
    if options.data is not None:
        _table(name, options.data)


@lru_cache(maxsize=1)
def public_tasks() -> Mapping[str, PublicTask]:
    """Reads the description of every public data set; returns them by task name."""
    return {
        file.stem: decode(PublicTask, yaml.safe_load(file.read_text(encoding="utf-8")))
        for file in sorted(FOLDER.glob("*.yaml"))
    }


def questions(name: str, options: SampleOptions) -> QuestionSet:
    """Opens a data set and returns its questions. Raises UserError if it cannot be opened."""
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
    """Turns the rows of one public data set into questions."""

    def __init__(self, task: PublicTask, table: DatasetRows) -> None:
        self._task, self._table, self._columns = task, table, task.columns
        self.pictures = _distinct(table, task.columns.picture)
        ids = _distinct(table, task.columns.id)
        unique = len(set(ids)) == len(ids)
        # Journals and comparisons identify items by their ids, so ids must be unique.
        self._ids = ids if unique else [f"{id_}#{row}" for row, id_ in enumerate(ids)]

    def question(self, number: int) -> TaskQuestion:
        """Makes a row's question. Raises UnusableQuestion, which names file, row and column."""
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
        if len(value) > len(ascii_uppercase):
            raise _Wrong(names[0], f"at most {len(ascii_uppercase)} options", len(value))
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
    """Raised for a value that its column should not contain."""

    def __init__(self, column: str, expected: str, found: object) -> None:
        super().__init__(
            f"expected {expected}, found {'nothing' if found is None else f'{found!r:.60}'}"
        )
        self.column = column


def _distinct(table: DatasetRows, column: str | None) -> list[str]:
    """Returns a column's values as strings; where one is missing, the row's number, from 0.

    Half of a surrogate pair, which JSON can hold and UTF-8 cannot, becomes "?".
    """
    values = table.column(column) if column in table.columns() else [None] * len(table)
    texts = (str(n) if value is None else str(value) for n, value in enumerate(values))
    return [text.encode(errors="replace").decode() for text in texts]


def _answer(value: object) -> str | None:
    """Returns an answer that is a string, or the string in VQA's {"answer": string}; else None."""
    if isinstance(value, Mapping):
        value = value.get("answer")
    return value if isinstance(value, str) else None


def _letter(value: object, options: tuple[str, ...], column: str) -> str:
    """Returns the letter of the right option, which the data give as a letter or an index from 0.

    Raises _Wrong for anything else.
    """
    letters = ascii_uppercase[: len(options)]
    if isinstance(value, str) and value.strip() in tuple(letters):
        return value.strip()
    numbers = {str(n): letter for n, letter in enumerate(letters)}
    if isinstance(value, int | str) and str(value) in numbers:
        return numbers[str(value)]
    raise _Wrong(column, f"a letter up to {letters[-1:] or 'A'}, or an index from 0", value)


def _listed(value: Any) -> Any:
    """Parses a string that is a list in Python's notation (MMMU); else returns it unchanged."""
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return value  # all of these on text that is no list, or is nested without end
    return value


def _present(value: object) -> bool:
    """Whether an option or hint is there: not None, an empty string or pandas' nan."""
    return value is not None and str(value).strip().lower() not in ("", "nan")
