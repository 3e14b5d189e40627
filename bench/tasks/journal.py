"""A file of the items that an evaluation has answered, so that a resumed run skips them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from bench.record import BadItem, Item
from export.decode import Mismatch, decode
from export.errors import UserError


class Journal:
    """Items in the order they were answered; without a file they are only in memory."""

    def __init__(self, path: Path | None = None) -> None:
        """Reads existing items; removes a last line that was cut off. Raises UserError."""
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
        """Add an item; it has been passed to the system when this returns."""
        self._keep(item)
        if self._file is not None:
            self._file.write(json.dumps(vars(item), ensure_ascii=False).encode() + b"\n")
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
    """Lines and their items, up to the first line that is not an item."""
    item: Item | BadItem
    for line in file:
        try:
            value = json.loads(line)
            bad = isinstance(value, dict) and "reason" in value
            item = decode(BadItem, value) if bad else decode(Item, value)
        except (ValueError, Mismatch):
            return
        if not line.endswith(b"\n"):
            return
        yield line, item
