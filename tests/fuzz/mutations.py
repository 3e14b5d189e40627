"""Seeded faults in files: what a stranger's file may say where a sound one says something.

A fault changes files of a folder in place and returns words for what it changed. NOT aware of
families or commands: a fault is in a JSON value, a line, a name, a length, a number or a byte.
"""

import copy
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

WEIGHTS = "model.safetensors"
ARTIFACT = "artifact.json"
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
        if not (folder / name).exists():  # a model for text has no preprocessor
            return f"{name}: is not there"
        content = json.loads((folder / name).read_text())
        said = [changed(chosen, content) for _ in range(chosen.randint(1, most))]
        (folder / name).write_text(dumped(content))
        return f"{name}: {'; '.join(said)}"

    return fault


def dumped(content: Any) -> str:
    """The content as JSON; an infinity becomes 1e999, which is JSON."""
    return json.dumps(content).replace("Infinity", "1e999")


def changed(chosen: random.Random, content: Any) -> str:
    """Changes one value of a JSON document in place; returns where and how."""
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
    said = changed(chosen, content)
    header = dumped(content).encode()
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


def values_fault(chosen: random.Random, folder: Path) -> str:
    """Some values of a tensor in bfloat16 infinite, not a number, huge or tiny."""
    data = bytearray((folder / WEIGHTS).read_bytes())
    end = 8 + int.from_bytes(data[:8], "little")
    tensors = {name: one for name, one in json.loads(data[8:end]).items() if "shape" in one}
    name = chosen.choice(sorted(tensors))
    first, last = tensors[name]["data_offsets"]
    bits = chosen.choice((0x7F80, 0xFF80, 0x7FC0, 0x7F7F, 0x4780, 0x0001, 0x0000, 0x8000))
    count = min((last - first) // 2, chosen.choice((1, 40, 10**9)))
    data[end + first : end + first + 2 * count] = bits.to_bytes(2, "little") * count
    (folder / WEIGHTS).write_bytes(data)
    return f"{name}: {count} values {bits:#06x}"


def lines_fault(name: str) -> Fault:
    """Lines of a file of JSON lines changed, cut, doubled, removed, or made something else."""

    def fault(chosen: random.Random, folder: Path) -> str:
        lines = (folder / name).read_bytes().split(b"\n")
        place = chosen.randrange(len(lines))
        kind = chosen.choice(("value", "value", "value", *LINES, "cut", "gone", "twice"))
        if kind == "value" and lines[place]:
            content = json.loads(lines[place])
            said = changed(chosen, content)
            lines[place], kind = dumped(content).encode(), said
        elif kind in LINES:
            lines[place] = LINES[kind](lines[place])
        elif kind == "cut":
            lines[place] = lines[place][: chosen.randrange(len(lines[place]) + 1)]
        elif kind == "twice":
            lines.insert(place, lines[place])
        else:
            del lines[place]
        (folder / name).write_bytes(b"\n".join(lines))
        return f"{name}:{place + 1}: {kind}"

    return fault


LINES: Mapping[str, Callable[[bytes], bytes]] = {
    "nested": lambda line: b"[" * 200_000,
    "nested objects": lambda line: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "UTF-16": lambda line: line.decode("utf-8", "replace").encode("utf-16"),
    "byte order mark": lambda line: b"\xef\xbb\xbf" + line,
    "separator": lambda line: line.replace(b" ", "\u2028".encode()),
    "return": lambda line: line + b"\r",
    "NaN": lambda line: line.replace(b"1", b"NaN"),
    "long": lambda line: b'{"question": "' + b"word " * 300_000 + b'"}',
    "list": lambda line: b"[" + line + b"]",
    "zeros": lambda line: b"\0" * len(line),
    "blank": lambda line: b"  ",
    "twice in a key": lambda line: line[:-1] + b", " + line[1:],
    "many digits": lambda line: line.replace(b"1", b"1" * 5000),
}


def template_fault(chosen: random.Random, folder: Path) -> str:
    """The checkpoint's chat template another text: broken, without end, or with a piece missing."""
    path = folder / "chat_template.jinja"
    sound = path.read_text() if path.exists() else "{{ messages[0]['content'] }}"
    kind = chosen.choice((*TEMPLATES, "piece", "piece"))
    if kind == "piece":
        first, last = sorted(chosen.randrange(len(sound) + 1) for _ in range(2))
        text = chosen.choice((sound[:first] + sound[last:], sound + sound[first:last]))
    else:
        text = TEMPLATES[kind](sound)
    as_json = {"chat_template": text}
    place = chosen.choice(("chat_template.jinja", "chat_template.json", "tokenizer_config.json"))
    if place.endswith(".jinja"):
        (folder / place).write_text(text)
    else:
        path.unlink(missing_ok=True)
        known = json.loads((folder / place).read_text()) if (folder / place).exists() else {}
        (folder / place).write_text(json.dumps(known | as_json))
    return f"{place}: {kind}"


TEMPLATES: Mapping[str, Callable[[str], str]] = {
    "empty": lambda sound: "",
    "not closed": lambda sound: sound + "{% for x in messages %}",
    "unknown name": lambda sound: "{{ nothing.at.all }}",
    "raises": lambda sound: "{{ raise_exception('no\\nsystem role') }}",
    "long": lambda sound: "{% for x in range(99999) %}{{ messages }}{% endfor %}",
    "without end": lambda sound: (
        "{% for x in range(99999) %}{% for y in range(99999) %}{% endfor %}{% endfor %}"
    ),
    "recursive": lambda sound: "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "multiplies": lambda sound: "{{ 'x' * 99999999999 }}",
    "power": lambda sound: "{{ 9 ** 9 ** 9 }}",
    "reaches out": lambda sound: "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "includes": lambda sound: "{% include '/etc/hostname' %}",
    "system": lambda sound: "You are a pirate. " + sound,
    "nested": lambda sound: "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
}


def damaged_header(chosen: random.Random, content: bytes, header: int) -> bytes:
    """One to four changes of the first `header` bytes: a bit, an 8-byte number, a copied piece."""
    data = bytearray(content)
    for _ in range(chosen.randint(1, 4)):
        place, kind = chosen.randrange(4, header - 8), chosen.randrange(3)
        if kind == 0:
            data[place] ^= 1 << chosen.randrange(8)
        elif kind == 1:
            number = chosen.choice((0, 1, 2**31, 2**32 - 1, 2**63 - 1, place))
            data[place : place + 8] = number.to_bytes(8, "little")
        else:
            start, length = chosen.randrange(4, header - 64), chosen.randint(1, 63)
            data[place : place + length] = data[start : start + length]
    return bytes(data)


def parts_fault(chosen: random.Random, folder: Path) -> str:
    """A binary file of an artifact with other bytes near its start, anywhere, or cut short."""
    names = [path for path in sorted(folder.rglob("*")) if path.suffix in BINARY]
    path = chosen.choice(names)
    content = path.read_bytes()
    kind = chosen.choice(("header", "header", "anywhere", "zeros", "cut", "longer"))
    place, end = chosen.randrange(len(content)), len(content)
    if kind == "header" and end > 200:
        content = damaged_header(chosen, content, min(end, 4000))
    elif kind == "cut":
        content = content[:place]
    elif kind == "longer":
        content += bytes(place)
    else:
        length = 1 if kind == "anywhere" else min(end - place, 1000)
        content = content[:place] + bytes(length) + content[place + length :]
    path.write_bytes(content)
    return f"{path.name}: {kind} at {place} of {end}"


BINARY = (".onnx", ".data", ".gguf", ".raw", ".npy", ".bin")


def honest(fault: Fault) -> Fault:
    """The fault in a file of an artifact, with sizes and digests in artifact.json made right."""

    def forged(chosen: random.Random, folder: Path) -> str:
        said = fault(chosen, folder)
        try:
            content = json.loads((folder / ARTIFACT).read_bytes())
            for name in content["files"]:
                data = (folder / name).read_bytes()
                digest = hashlib.sha256(data).hexdigest()
                content["files"][name] = {"bytes": len(data), "sha256": digest}
        except (OSError, ValueError, LookupError, TypeError):
            return said  # what the fault left is no artifact
        (folder / ARTIFACT).write_text(json.dumps(content))
        return f"{said}, digests right"

    return forged


CHECKPOINT: Mapping[str, Fault] = {
    "config": json_fault("config.json"),
    "one config value": json_fault("config.json", most=1),
    "preprocessor": json_fault("preprocessor_config.json"),
    "generation": json_fault("generation_config.json"),
    "tokenizer": json_fault("tokenizer.json", most=1),
    "header": header_fault,
    "bytes": byte_fault,
    "files": file_fault,
}
"""Faults in a checkpoint's folder; "preprocessor" needs one whose model takes images."""
