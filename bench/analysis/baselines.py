"""Compares predicted sizes and memory of exports with those accepted in a baseline file.

Measured peaks have a baseline of their own, in bench.analysis.peak_baseline.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from bench.analysis.predictions import Prediction
from export.decode import Mismatch, decode
from export.errors import UserError
from export.files import parse_json

T = TypeVar("T")
SCHEMA = 1
ACCEPT = "`bench check --update` accepts the present ones"

# quantity -> share by which it may grow; 0 because all are computed, so there is no noise
TOLERANCES: Mapping[str, float] = {
    "disk_bytes": 0.0,
    "kv_bytes_per_token": 0.0,
    "peak_bytes": 0.0,
}


@dataclass(frozen=True)
class Accepted:
    """The accepted size and memory of one export, as the baseline file has them.

    None: the export's target cannot predict that number. `files` maps a file's name to its bytes.
    """

    model: str
    target: str
    recipe: str
    disk_bytes: int | None
    kv_bytes_per_token: int | None
    peak_bytes: int | None
    files: Mapping[str, int] | None

    @property
    def key(self) -> tuple[str, str, str]:
        return self.model, self.target, self.recipe


@dataclass(frozen=True)
class Difference:
    """A quantity of one export that differs from its accepted value.

    `before` is the accepted value, None for a new export; `after` is the present one, None for an
    export that is gone. `tolerance` is the share by which it may grow; `files` are those whose
    sizes changed.
    """

    export: str
    quantity: str
    before: int | None
    after: int | None
    tolerance: float
    files: tuple[str, ...] = ()

    @property
    def verdict(self) -> Literal["new", "gone", "grew", "grew, tolerated", "shrank"]:
        if self.before is None:
            return "new"
        if self.after is None:
            return "gone"
        if self.after < self.before:
            return "shrank"
        limit = self.before * (1 + self.tolerance)
        return "grew" if self.after > limit else "grew, tolerated"

    @property
    def fails(self) -> bool:
        """Whether this difference fails the check: it grew beyond its tolerance, or is new."""
        return self.verdict in ("new", "grew")


def accepted(rows: Iterable[Prediction]) -> list[Accepted]:
    """Turns predictions into entries of a baseline: the same without the devices that fit."""
    return [
        Accepted(
            model=row.model,
            target=row.target,
            recipe=row.recipe,
            disk_bytes=row.disk_bytes,
            kv_bytes_per_token=row.kv_bytes_per_token,
            peak_bytes=row.peak_bytes,
            files=None if row.files is None else dict(sorted(row.files.items())),
        )
        for row in rows
    ]


def differences(before: Sequence[Accepted], after: Sequence[Accepted]) -> list[Difference]:
    """Returns every quantity whose present value (`after`) is not the accepted one (`before`).

    They are in the order of the exports in `after`; exports that are gone come last.
    """
    old, new = ({row.key: row for row in rows} for rows in (before, after))
    changed = []
    for key in dict.fromkeys((*new, *old)):
        was, now = old.get(key), new.get(key)
        for quantity, tolerance in TOLERANCES.items():
            size, then = (getattr(row, quantity, None) for row in (now, was))
            if size != then:
                files = _changed(was, now) if quantity == "disk_bytes" else ()
                changed.append(Difference(" ".join(key), quantity, then, size, tolerance, files))
    return changed


def load(path: Path) -> list[Accepted]:
    """Reads the entries of a baseline file. Raises UserError if it is missing or damaged."""

    def rows(content: Mapping[str, Any]) -> list[Accepted]:
        return list(decode(tuple[Accepted, ...], content.get("rows", []), "rows"))

    return load_baseline(path, ACCEPT, rows)


def save(path: Path, rows: Sequence[Accepted]) -> None:
    """Writes a baseline file. Raises UserError if that fails."""
    save_baseline(path, [asdict(row) for row in rows])


def load_baseline(path: Path, remedy: str, read: Callable[[Mapping[str, Any]], T]) -> T:
    """Reads a baseline file of JSON, and returns what `read` makes of its content.

    `read` gets the content without its key `schema`. Raises UserError, which ends with `remedy`
    (what the user can do), if the file is missing or damaged.
    """
    try:
        content = dict(parse_json(path.read_bytes(), "it"))
        schema = content.pop("schema", None)
        if type(schema) is int and schema > SCHEMA:
            remedy = "update PocketVLM"
        if schema != SCHEMA:
            raise Mismatch(f"has schema {schema}, expected {SCHEMA}")
        return read(content)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no baseline; {remedy}") from None
    except (OSError, UserError, Mismatch) as error:
        raise UserError(f"{path}: cannot be used ({error}); {remedy}") from None


def save_baseline(path: Path, rows: Iterable[Mapping[str, Any]], **more: object) -> None:
    """Writes a baseline file of JSON, with one of `rows` per line, so that diffs are small.

    `more` are further keys of the file. Raises UserError if it cannot be written.
    """
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    head = "".join(f"{json.dumps(key)}: {json.dumps(value)}, " for key, value in more.items())
    text = f'{{"schema": {SCHEMA}, {head}"rows": [\n{lines}\n]}}\n'
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None


def _changed(was: Accepted | None, now: Accepted | None) -> tuple[str, ...]:
    """Names the files of an export whose sizes differ; () if either has no sizes of files."""
    if was is None or now is None or was.files is None or now.files is None:
        return ()
    before, after = was.files, now.files
    names = dict.fromkeys((*after, *before))
    return tuple(name for name in names if before.get(name) != after.get(name))
