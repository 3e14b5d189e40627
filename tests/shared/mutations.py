"""Seeded faults in a checkpoint folder: what a stranger's file may say where ours says something.

NOT aware of families: a fault is in a JSON value, a name, a length or a byte.
"""

import copy
import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

WEIGHTS = "model.safetensors"
# What stands instead of a value: other types, signs, sizes, and relations broken by one.
VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 3, 7, 2**31, 2**63, 10**40, 0.0, -0.5, 1.5, 1e-300, 1e308,
    float("inf"), "", "1", "silu", "\ud800", "../x", [], [1], [0, 0, 0], [[]], [None], [1, 2, 3],
    {}, {"a": 1}, {"rope_type": "linear"}, "x" * 5000,
)  # fmt: skip

Keys = tuple[str | int, ...]
Fault = Callable[[random.Random, Path], str]


def paths(value: Any, at: Keys = ()) -> Iterator[Keys]:
    """Where every value of a JSON document is."""
    if at:
        yield at
    if isinstance(value, dict):
        inner = list(value.items())
    else:
        inner = list(enumerate(value)) if isinstance(value, list) else []
    for key, one in inner:
        yield from paths(one, (*at, key))


def json_fault(name: str, most: int = 2) -> Fault:
    """Up to `most` values of a JSON file replaced, moved by one, doubled, removed or renamed."""

    def fault(chosen: random.Random, folder: Path) -> str:
        content = json.loads((folder / name).read_text())
        said = [_changed(chosen, content) for _ in range(chosen.randint(1, most))]
        # An infinity becomes 1e999, which is JSON.
        text = json.dumps(content).replace("Infinity", "1e999")
        (folder / name).write_text(text)
        return f"{name}: {'; '.join(said)}"

    return fault


def _changed(chosen: random.Random, content: Any) -> str:
    places = list(paths(content))
    if not places:
        return "nothing left"
    # Long lists (a vocabulary) do not crowd out what is above them.
    depth = chosen.randint(1, max(map(len, places)))
    *above, key = chosen.choice([place for place in places if len(place) == depth])
    holder = content
    for step in above:
        holder = holder[step]
    kind = chosen.choice(("value", "value", "value", "near", "remove", "rename"))
    old = holder[key]
    if kind == "near" and type(old) in (int, float):
        holder[key] = chosen.choice((old + 1, old - 1, 2 * old, -old, old / 2, old // 2))
    elif kind == "remove":
        del holder[key]
    elif kind == "rename" and isinstance(holder, dict):
        holder[chosen.choice(("x", "", f"{key}_"))] = holder.pop(key)
    else:
        holder[key] = copy.deepcopy(chosen.choice(VALUES))
    return f"{'.'.join(map(str, (*above, key)))} {kind}"


def header_fault(chosen: random.Random, folder: Path) -> str:
    """Values of the safetensors header changed, its length told right."""
    data = (folder / WEIGHTS).read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    content = json.loads(data[8:end])
    said = _changed(chosen, content)
    header = json.dumps(content).replace("Infinity", "1e999").encode()
    (folder / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + data[end:])
    return f"header: {said}"


def byte_fault(chosen: random.Random, folder: Path) -> str:
    """Any file cut short, or one of its first bytes another."""
    path = chosen.choice(sorted(folder.iterdir()))
    data = bytearray(path.read_bytes())
    place = chosen.randrange(min(len(data), 4000))
    if chosen.random() < 0.3:
        del data[place:]
    else:
        data[place] = chosen.randrange(256)
    path.write_bytes(data)
    return f"{path.name}: byte {place} of {len(data)}"


def file_fault(chosen: random.Random, folder: Path) -> str:
    """A file gone, empty, a folder, a link to elsewhere or another file's content."""
    path = chosen.choice(sorted(folder.iterdir()))
    kind = chosen.choice(("gone", "empty", "folder", "dangling", "outside", "other"))
    other = chosen.choice(sorted(folder.iterdir())).read_bytes()
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind in ("dangling", "outside"):
        path.symlink_to("nowhere" if kind == "dangling" else "/etc/hostname")
    elif kind != "gone":
        path.write_bytes(b"" if kind == "empty" else other)
    return f"{path.name}: {kind}"


FAULTS: Mapping[str, Fault] = {
    "config": json_fault("config.json"),
    "one config value": json_fault("config.json", most=1),
    "preprocessor": json_fault("preprocessor_config.json"),
    "generation": json_fault("generation_config.json"),
    "tokenizer": json_fault("tokenizer.json", most=1),
    "header": header_fault,
    "bytes": byte_fault,
    "files": file_fault,
}
