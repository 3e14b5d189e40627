"""Remembers the SHA-256 of files, so that a file is read once and not at every opening.

A file is recognized by device, inode, size and times. The memory is a file in the user's cache
folder; where it cannot be read or written, files are read again.
"""

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from export.cache import cache_folder
from export.files import sha256_of

MOST = 1000
"""Files that are remembered; the first ones are forgotten first."""
LEAST_BYTES = 1 << 20
"""Smaller files are read faster than they are worth remembering."""
SETTLED_NS = 2 * 10**9
"""A file that changed a shorter time ago could change once more within one tick of its clock."""


class Digests:
    """The SHA-256 of files, by their state; kept in `file` (None: only in this object).

    `read` computes a file's SHA-256. A file that changed less than `settled_ns` ago is not
    remembered, and of the others the newest `most`.
    """

    def __init__(
        self,
        file: Path | None,
        *,
        read: Callable[[Path], str] = sha256_of,
        settled_ns: int = SETTLED_NS,
        most: int = MOST,
    ) -> None:
        self._file, self._sha256_of = file, read
        self._settled_ns, self._most = settled_ns, most
        self._known = {} if file is None else _read(file)

    def of(self, paths: Iterable[Path]) -> dict[Path, str]:
        """Returns the hexadecimal SHA-256 of each file; reads only those not remembered.

        Raises UserError for a file that cannot be read.
        """
        found: dict[Path, str] = {}
        new: dict[str, str] = {}
        for path in paths:
            state, age_ns = _state(path), _age_ns(path)
            found[path] = self._known.get(state) or self._sha256_of(path)
            if state in self._known or age_ns < self._settled_ns or _state(path) != state:
                continue
            self._known[state] = found[path]
            if path.stat().st_size >= LEAST_BYTES:
                new[state] = found[path]
        if new and self._file is not None:
            known = {**_read(self._file), **new}
            _write(self._file, dict(list(known.items())[-self._most :]))
        return found


@cache
def remembered() -> Digests:
    """Returns the memory that all of this process shares."""
    return Digests(cache_file())


def cache_file() -> Path | None:
    """Returns digests.json in the cache folder; None: there is no such folder."""
    folder = cache_folder()
    return folder / "digests.json" if folder is not None else None


def _state(path: Path) -> str:
    """Returns a text that changes with the file's content, as far as the system says."""
    facts = path.stat()
    # The time of the last change of the inode too: unlike the other one, no program can set it.
    numbers = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    return ":".join(map(str, numbers))


def _age_ns(path: Path) -> int:
    facts = path.stat()
    return time.time_ns() - max(facts.st_mtime_ns, facts.st_ctime_ns)


def _read(file: Path) -> dict[str, str]:
    """Returns what a file remembers; {} if it is missing or not as it was written."""
    try:
        seal, _, content = file.read_bytes().partition(b"\n")
    except OSError:
        return {}
    if seal.decode("latin-1") != hashlib.sha256(content).hexdigest():
        return {}
    known: dict[str, str] = json.loads(content)
    return known


def _write(file: Path, known: Mapping[str, str]) -> None:
    """Replaces the file as a whole, so that a process that reads it never sees half of it.

    Of two processes that write at once, one's lines are lost, and those files are read once more.
    """
    content = json.dumps(known, indent=0).encode()
    with suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f"{file.name}.", dir=file.parent)
        try:
            with open(handle, "wb") as out:
                out.write(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
            Path(name).replace(file)
        finally:
            Path(name).unlink(missing_ok=True)
