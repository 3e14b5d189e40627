"""Reads files of an untrusted folder: only inside it, and only up to a size."""

import codecs
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from export.errors import UserError

JSON_LIMIT_BYTES = 64 << 20
FILE_LIMIT_BYTES = 256 << 20
"""Larger than any tokenizer.json (Gemma's has 33 MB), small enough for memory."""

NESTED_LIMIT = 64
"""How many lists and objects may be in each other; no file of this field comes near."""
TOO_DEEP = f"nested too deeply: over {NESTED_LIMIT} lists and objects in each other"

BLOCK_BYTES = 1 << 20


def is_folder(path: Path) -> bool:
    """Whether the path is a folder; False for a name that is too long for a file system, too."""
    try:
        return path.is_dir()
    except OSError:
        return False


def inside(folder: Path, name: str) -> Path:
    """Returns the path of the file `name` in `folder`, which need not exist.

    Raises UserError if the name or a link leads out of the folder.
    """
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts or not name.isprintable() or len(name) > 255:
        raise UserError(
            f"{folder}: names the file {short(name)!r}, which is not a plain path inside the "
            f"folder; files outside are not read"
        )
    path = folder / name
    target = Path(os.path.realpath(path))
    if not target.is_relative_to(_root(folder)):
        raise UserError(f"{path}: links out of the folder, to {target}; put the file itself there")
    return path


def read_file(folder: Path, name: str, limit_bytes: int = FILE_LIMIT_BYTES) -> bytes:
    """Reads a file inside `folder`.

    Raises UserError if it is missing, unreadable, outside, or larger than `limit_bytes`.
    """
    path = inside(folder, name)
    try:
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        if (size := path.stat().st_size) > limit_bytes:
            raise UserError(f"{path}: has {size} bytes, expected at most {limit_bytes}")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Reads a file inside `folder` that holds one JSON object. Raises UserError."""
    data = read_file(folder, name, JSON_LIMIT_BYTES)
    return parse_json(data, str(folder / name))


def parse_json(data: bytes, where: str) -> dict[str, Any]:
    """Parses one JSON object; errors name `where`.

    Raises UserError for anything else: also for repeated keys, NaN and text that is not UTF-8.
    """
    try:
        value = json_value(data, parse_constant=_no_constant, object_pairs_hook=_no_repetition)
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: is not UTF-8 text (byte {error.start})") from None
    except ValueError as error:
        raise UserError(f"{where}: is not valid JSON ({short(str(error))})") from None
    if not isinstance(value, dict):
        raise UserError(f"{where}: holds a JSON {type(value).__name__}, expected an object")
    return value


def plain_text(data: bytes, where: str) -> str:
    """Returns the text of a file. Raises a UserError that begins with `where` if not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: is not UTF-8 text (byte {error.start})") from None


def json_value(data: bytes, **hooks: Any) -> Any:
    """Parses a stranger's JSON of any type; `hooks` are those of `json.loads`.

    Raises ValueError for what is not JSON in UTF-8, and for lists and objects nested deeper than
    NESTED_LIMIT, on which code that follows them would exceed Python's stack.
    """
    try:
        value = json.loads(data.decode("utf-8"), **hooks)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    level, depth = _containers([[value]]), 0
    while level:
        level, depth = _containers(level), depth + 1
        if depth > NESTED_LIMIT:
            raise ValueError(TOO_DEEP)
    return value


def json_lines(path: Path) -> list[tuple[int, bytes]]:
    """Returns the lines of a file of JSON that are not blank, each with its number from 1.

    Only a line feed ends a line: texts in JSON may have other separators, such as U+2028. Raises
    UserError for a file that cannot be read.
    """
    try:
        lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def snapshot_of(folder: Path) -> str | None:
    """Returns the model's name if a real path is a snapshot in the Hugging Face cache; else None.

    Such a folder is models--<owner>--<name>/snapshots/<commit>.
    """
    kept = folder.parent.parent.name
    if folder.parent.name != "snapshots" or not kept.startswith("models--"):
        return None
    return kept.rpartition("--")[2]


def file_name(text: str) -> str:
    """Turns a name from outside into the start of a file name, of at most 128 characters.

    Each run of characters but letters, digits, dots, hyphens and underscores becomes a hyphen; dots
    and hyphens at both ends are dropped. A name of which nothing remains becomes "model".
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:128].strip("-.") or "model"


def sha256_of(path: Path) -> str:
    """Returns the hexadecimal SHA-256 of a file, which is read block by block.

    Raises UserError for a file that cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return digest.hexdigest()


def short(text: str, length: int = 80) -> str:
    """Returns `text`; if it is longer than `length`, with "…" instead of its middle."""
    if len(text) <= length:
        return text
    return f"{text[: length // 2]}…{text[-length // 2 :]}"


def few(names: Iterable[str], shown: int = 3) -> str:
    """Joins the first `shown` names with commas; adds the total number if there are more."""
    listed = list(names)
    more = f", … ({len(listed)} in all)" if len(listed) > shown else ""
    return ", ".join(short(name) for name in listed[:shown]) + more


def _root(folder: Path) -> Path:
    """Returns the folder that symbolic links inside `folder` may point into.

    It is the folder itself; for a snapshot in the Hugging Face cache, the model's cache folder.
    """
    real = Path(os.path.realpath(folder))
    return real if snapshot_of(real) is None else real.parent.parent


def _containers(outer: list[Any]) -> list[Any]:
    """Returns the lists and objects that are directly in the given lists and objects."""
    inner = (each.values() if isinstance(each, dict) else each for each in outer)
    return [item for items in inner for item in items if isinstance(item, dict | list)]


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _no_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {short(twice)!r} occurs twice")
    return found
