"""Reads rows of public data sets, from the Hugging Face hub or a folder of parquet or jsonl files.

The hub and parquet are read with `datasets`. Lines of jsonl are parsed one by one, so that an error
names the line and the other lines stay usable.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from export.errors import UserError
from export.files import json_lines, json_value
from runtimes.prepare.image import load_image, load_image_bytes

DatasetRow = Mapping[str, Any]


@dataclass(frozen=True)
class DatasetLocation:
    """Where a data set is: on the Hugging Face hub, or in a local folder with the same columns.

    `folder` None: on the hub, under the name `dataset`. `config`, `split` and `revision` are the
    hub's terms; None: the default.
    """

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
    """The rows of one local file, or of one split on the hub.

    `folder` has the image files that rows name; None if the rows contain their images. `numbers`
    has the line number of each row, from 1, for a file that may have empty lines.
    """

    name: str
    rows: Any  # a datasets.Dataset, or a list of parsed lines (None: not a JSON object)
    columns: frozenset[str]
    folder: Path | None
    numbers: Sequence[int] | None = None


class DatasetRows:
    """All rows of a data set, numbered from 0 through all files; images are decoded on demand."""

    def __init__(self, location: DatasetLocation, needed: Sequence[str]) -> None:
        """Opens the files, or fetches from the hub.

        Raises UserError if that fails, if a column of `needed` is missing, or without rows.
        """
        self._parts = _local(location, location.folder) if location.folder else [_hub(location)]
        for part in self._parts:
            _expect_columns(part, needed)
        if not len(self):
            raise UserError(f"{location}: no rows")

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
        """Returns the names of the columns that all files have."""
        return frozenset.intersection(*(part.columns for part in self._parts))

    def column(self, name: str) -> list[Any]:
        """Returns the values of a column for all rows; None where a line is not a JSON object."""
        return [value for part in self._parts for value in _values(part.rows, name)]

    def row(self, number: int) -> DatasetRow | None:
        """Returns a row with its images undecoded; None if its line is not a JSON object."""
        part, index = self._at(number)
        row: DatasetRow | None = part.rows[index]
        return row

    def where(self, number: int, column: str | None = None) -> str:
        """Names the file, row (from 1) and column for an error message; `number` counts from 0."""
        part, index = self._at(number)
        row = part.numbers[index] if part.numbers else index + 1
        return f"{part.name}, row {row}{f', column {column!r}' if column else ''}"

    def image(self, number: int, column: str) -> Image.Image:
        """Opens the image in a row's column. Raises UserError, with the place, if that fails."""
        row, (part, _) = self.row(number), self._at(number)
        try:
            return _image(row.get(column) if row else None, part.folder)
        except UserError as error:
            raise UserError(f"{self.where(number, column)}: {error}") from error

    def _at(self, number: int) -> tuple[RowFile, int]:
        n = next(n for n, end in enumerate(self._ends) if number < end)
        return self._parts[n], number - (self._ends[n - 1] if n else 0)


def _values(rows: Any, name: str) -> Iterator[Any]:
    if isinstance(rows, list):
        yield from (None if row is None else row.get(name) for row in rows)
    else:
        yield from rows[name]


def _expect_columns(part: RowFile, needed: Sequence[str]) -> None:
    if not len(part.rows):
        return  # reported for all files together
    missing = next((name for name in needed if name not in part.columns), None)
    if missing is not None:
        has = ", ".join(sorted(part.columns)) or "none"
        raise UserError(
            f"{part.name}: there is no column {missing!r}; rename the right one (columns: {has})"
        )


def _local(location: DatasetLocation, folder: Path) -> list[RowFile]:
    if not folder.is_dir():
        raise UserError(f"--data {folder}: not a folder; name one with parquet or jsonl files")
    inside = (
        folder / location.config
        if location.config and (folder / location.config).is_dir()
        else folder
    )
    for suffix, read in ((".parquet", _parquet), (".jsonl", _jsonl)):
        files = sorted(inside.rglob(f"*{suffix}"))
        # The hub's names: validation-00000-of-00003.parquet
        of_split = [
            file
            for file in files
            if file.name.split("-")[0] in (location.split, f"{location.split}{suffix}")
        ]
        if files:
            return [read(file) for file in of_split or files]
    raise UserError(
        f"{inside}: there are no .parquet or .jsonl files; put the rows of {location.dataset} there"
    )


def _parquet(file: Path) -> RowFile:
    from datasets import Dataset, disable_progress_bars, logging

    disable_progress_bars()  # reading is fast
    logging.set_verbosity(logging.CRITICAL)  # errors are reported below
    try:
        rows = Dataset.from_parquet(str(file))
    except Exception as error:  # datasets wraps errors of any type
        raise UserError(f"{file}: not a readable parquet file ({_reason(error)})") from error
    return _undecoded(str(file), rows, file.parent)


def _undecoded(name: str, rows: Any, folder: Path | None) -> RowFile:
    """Wraps rows with undecoded images, so that a broken image affects only its own row."""
    from datasets import Image as Images

    for column, feature in rows.features.items():
        if isinstance(feature, Images):
            rows = rows.cast_column(column, Images(decode=False))
    return RowFile(name, rows, frozenset(rows.column_names), folder)


def _jsonl(file: Path) -> RowFile:
    lines = json_lines(file)
    rows = [_parsed(line) for _, line in lines]
    whole = [frozenset(row) for row in rows if row is not None]
    # A column counts as present if any row has it; rows without it are bad items.
    return RowFile(str(file), rows, frozenset().union(*whole), file.parent, [n for n, _ in lines])


def _parsed(line: bytes) -> DatasetRow | None:
    try:
        value = json_value(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _hub(location: DatasetLocation) -> RowFile:
    """Fetches the split from the Hugging Face hub; with HF_HUB_OFFLINE, from the local cache.

    Raises UserError if that fails.
    """
    from datasets import load_dataset

    try:
        rows = load_dataset(
            location.dataset,
            location.config,
            split=location.split,
            revision=location.revision,
        )
    except Exception as error:  # network, hub and cache raise many unrelated types
        raise UserError(
            f"{location}: cannot be fetched ({_reason(error)}); put its parquet or jsonl files "
            "into a folder and name it with --data DIR"
        ) from error
    return _undecoded(str(location), rows, None)


def _image(value: object, folder: Path | None) -> Image.Image:
    """Opens an image: a parquet value {bytes, path}, or the name of a file within `folder`.

    Raises UserError if it is neither, or cannot be read.
    """
    if isinstance(value, Mapping) and value.get("bytes"):
        return load_image_bytes(value["bytes"], "the image")
    name = value.get("path") if isinstance(value, Mapping) else value
    if not isinstance(name, str) or not name:
        raise UserError(f"not an image: expected one or a file's name, found {_shown(value)}")
    if folder is None:
        raise UserError(f"the image '{name}' is not in the data")
    try:
        file = (folder / name).resolve()
    except (ValueError, OSError, RuntimeError) as error:  # a NUL, half a surrogate, links in a ring
        raise UserError(f"the image {_shown(name)} cannot be a file ({error})") from None
    if not file.is_relative_to(folder.resolve()):
        raise UserError(f"the image '{name}' is outside of {folder}")
    return load_image(str(file))


def _shown(value: object) -> str:
    return f"{value!r:.40}" if value is not None else "nothing"


def _reason(error: BaseException) -> str:
    """Returns type and first line of the error that caused this one, at most 160 characters."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"[
        :160
    ]
