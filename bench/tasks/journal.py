"""A file of the questions that a run has answered, so that a resumed run skips them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from bench.record import BadItem, Item
from export.decode import Mismatch, decode
from export.errors import UserError
from export.files import json_value


class Journal:
    """The questions that were answered (`items`) or could not be used (`bad`), in that order.

    `known` has the ids of both. Without a path they are only in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Reads the existing file, if any, and removes a last line that was cut off.

        Raises UserError if the file cannot be written.
        """
        self.items: list[Item] = []
        self.bad: list[BadItem] = []
        self.known: set[str] = set()
        self._file: IO[bytes] | None = None
        if path is not None:
            try:
                self._file = path.open("ab+")
                self._read(self._file)
            except OSError as error:
                raise UserError(f"{path}: cannot be written ({error.strerror})") from error

    def add(self, item: Item | BadItem) -> None:
        """Adds an answered or unusable question; it is written to the file, perhaps not to disk."""
        self._keep(item)
        if self._file is not None:
            self._file.write(json.dumps(vars(item)).encode() + b"\n")
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _keep(self, item: Item | BadItem) -> None:
        self.known.add(item.id)
        if isinstance(item, Item):
            self.items.append(item)
        else:
            self.bad.append(item)

    def _read(self, file: IO[bytes]) -> None:
        file.seek(0)
        whole = 0
        for line, item in _items(file):
            whole += len(line)
            self._keep(item)
        file.truncate(whole)


def _items(file: IO[bytes]) -> Iterator[tuple[bytes, Item | BadItem]]:
    """Yields each line with the question that it records, up to the first damaged line."""
    item: Item | BadItem
    for line in file:
        try:
            value = json_value(line)
            bad = isinstance(value, dict) and "reason" in value
            item = decode(BadItem, value) if bad else decode(Item, value)
        except (ValueError, Mismatch):
            return
        if not line.endswith(b"\n"):
            return
        yield line, item
