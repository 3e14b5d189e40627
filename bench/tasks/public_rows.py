"""Rows of public data sets: of the hub, or of a local folder of parquet or jsonl files.

Parquet and the hub are read with `datasets`. Lines of jsonl are parsed here one by one, so that a
bad one can be named and the others stay. NOT aware of what columns mean.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from export.errors import UserError
from runtimes.prepare.image import load_image, load_image_bytes

DatasetRow = Mapping[str, Any]


@dataclass(frozen=True)
class DatasetLocation:
    """Where a data set is: on the hub, or (with `folder`) in a folder with the same columns."""

    dataset: str
    config: str | None
    split: str
    revision: str | None
    folder: Path | None

    def __str__(self) -> str:
        if self.folder is not None:
            return str(self.folder)
        config = f", {self.config}" if self.config else ""
        return f"{self.dataset}{f'@{self.revision}' if self.revision else ''}{config}, {self.split}"


@dataclass(frozen=True)
class RowFile:
    """Rows of one file, or of a split of the hub."""

    name: str
    rows: Any  # a datasets.Dataset, or a list of parsed lines (None: a line that is none)
    columns: frozenset[str]
    folder: Path | None
    """Where image files lie that its rows name; None where they hold their images."""
    numbers: Sequence[int] | None = None
    """Each row's number in the file, from 1, where lines between them are empty."""


class DatasetRows:
    """All rows, one file after another. Images are left as they are until one is opened."""

    def __init__(self, place: DatasetLocation, needed: Sequence[str]) -> None:
        """Opens it. Raises UserError for what cannot be read, lacks a column or has no rows."""
        self._parts = _local(place, place.folder) if place.folder else [_hub(place)]
        for part in self._parts:
            _expect_columns(part, needed)
        if not len(self):
            raise UserError(f"{place}: no rows")

    @cached_property
    def _ends(self) -> list[int]:
        ends, end = [], 0
        for part in self._parts:
            end += len(part.rows)
            ends.append(end)
        return ends

    def __len__(self) -> int:
        return self._ends[-1] if self._parts else 0

    def columns(self) -> frozenset[str]:
        """What all files have."""
        return frozenset.intersection(*(part.columns for part in self._parts))

    def column(self, name: str) -> list[Any]:
        """All values of one column; None where a line is no row."""
        return [value for part in self._parts for value in _values(part.rows, name)]

    def row(self, number: int) -> DatasetRow | None:
        """One row without opening its images; None where a line is no row."""
        part, place = self._at(number)
        found: DatasetRow | None = part.rows[place]
        return found

    def where(self, number: int, column: str | None = None) -> str:
        """File and row (from 1), for errors."""
        part, place = self._at(number)
        row = part.numbers[place] if part.numbers else place + 1
        return f"{part.name}, row {row}{f', column {column!r}' if column else ''}"

    def image(self, number: int, column: str) -> Image.Image:
        """Raises UserError, with file, row and column, for an image that cannot be read."""
        row, (part, _) = self.row(number), self._at(number)
        try:
            return _image(row[column] if row else None, part.folder)
        except UserError as error:
            raise UserError(f"{self.where(number, column)}: {error}") from error

    def _at(self, number: int) -> tuple[RowFile, int]:
        n = next(n for n, end in enumerate(self._ends) if number < end)
        return self._parts[n], number - (self._ends[n - 1] if n else 0)


def _values(rows: Any, name: str) -> Iterator[Any]:
    if isinstance(rows, list):
        yield from (row and row.get(name) for row in rows)
    else:
        yield from rows[name]


def _expect_columns(part: RowFile, needed: Sequence[str]) -> None:
    if not len(part.rows):
        return  # that is told of all files together
    missing = next((name for name in needed if name not in part.columns), None)
    if missing is not None:
        has = ", ".join(sorted(part.columns)) or "none"
        raise UserError(
            f"{part.name}: no column {missing!r}; rename the one that has it (has: {has})"
        )


def _local(place: DatasetLocation, folder: Path) -> list[RowFile]:
    if not folder.is_dir():
        raise UserError(f"--data {folder}: not a folder; it holds parquet or jsonl files")
    inside = folder / place.config if place.config and (folder / place.config).is_dir() else folder
    for suffix, read in ((".parquet", _parquet), (".jsonl", _jsonl)):
        files = sorted(inside.rglob(f"*{suffix}"))
        # The hub's names: validation-00000-of-00003.parquet
        own = [
            file
            for file in files
            if file.name.split("-")[0] in (place.split, f"{place.split}{suffix}")
        ]
        if files:
            return [read(file) for file in own or files]
    raise UserError(
        f"{inside}: no .parquet and no .jsonl files; they hold the rows of {place.dataset}"
    )


def _parquet(file: Path) -> RowFile:
    from datasets import Dataset, disable_progress_bars, logging

    disable_progress_bars()  # it takes no time
    logging.set_verbosity(logging.CRITICAL)  # what goes wrong is told below
    try:
        found = Dataset.from_parquet(str(file))
    except Exception as error:  # datasets wraps whatever went wrong below it
        raise UserError(f"{file}: not a readable parquet file ({_reason(error)})") from error
    return _undecoded(str(file), found, file.parent)


def _undecoded(name: str, found: Any, folder: Path | None) -> RowFile:
    """Images stay bytes, so that one that is broken spoils no other row."""
    from datasets import Image as Images

    for column, feature in found.features.items():
        if isinstance(feature, Images):
            found = found.cast_column(column, Images(decode=False))
    return RowFile(name, found, frozenset(found.column_names), folder)


def _jsonl(file: Path) -> RowFile:
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error
    numbers = [number for number, line in enumerate(lines, start=1) if line.strip()]
    rows = [_parsed(lines[number - 1]) for number in numbers]
    whole = [frozenset(row) for row in rows if row is not None]
    # A column that only some rows lack is their own fault; one that all lack is the file's.
    return RowFile(str(file), rows, frozenset().union(*whole), file.parent, numbers)


def _parsed(line: str) -> DatasetRow | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _hub(place: DatasetLocation) -> RowFile:
    """Fetched, or from the cache alone where HF_HUB_OFFLINE says so."""
    from datasets import load_dataset

    try:
        found = load_dataset(
            place.dataset,
            place.config,
            split=place.split,
            revision=place.revision,
        )
    except Exception as error:  # of the network, of the hub, of the cache: many unrelated types
        raise UserError(
            f"{place}: cannot be fetched ({_reason(error)}); put its parquet or jsonl files into a "
            "folder and name that by --data DIR"
        ) from error
    return _undecoded(str(place), found, None)


def _image(value: object, folder: Path | None) -> Image.Image:
    """From what parquet holds ({bytes, path}) or a line names (a file beside it)."""
    if isinstance(value, Mapping) and value.get("bytes"):
        return load_image_bytes(value["bytes"], "the image")
    name = value.get("path") if isinstance(value, Mapping) else value
    if not isinstance(name, str) or not name:
        raise UserError(f"no image: expected one or a file's name, found {_shown(value)}")
    if folder is None:
        raise UserError(f"the image '{name}' is not in the data")
    file = (folder / name).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise UserError(f"the image '{name}' lies outside of {folder}")
    return load_image(str(file))


def _shown(value: object) -> str:
    return f"{value!r:.40}" if value is not None else "nothing"


def _reason(error: BaseException) -> str:
    """The first line of what is at the bottom of it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"[
        :160
    ]
