"""The parsers that read a stranger's bytes, as functions of bytes, with sound examples of each.

tests/fuzz/guided.py gives them to a fuzzer that sees which code an input reaches; a test gives them
damaged examples.
"""

import json
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench import record
from export.artifact import MANIFEST, load_artifact
from export.checkpoint.safetensors import read_header as read_safetensors
from export.checkpoint.tokens import read_tokenizer
from export.errors import UserError
from runtimes.calibrate.questions import read_questions
from runtimes.llama_cpp.header import read_header as read_gguf
from tests.fuzz import sound
from tests.fuzz.mutations import changed, dumped

Parse = Callable[[bytes], object]
SHARED = Path("/dev/shm")


@dataclass(frozen=True)
class Parser:
    """`parse` takes bytes and raises UserError for what it refuses; `examples` are sound files
    under the folder of sound inputs; `lines`: each line of them is an example."""

    parse: Parse
    examples: str
    lines: bool = False


def in_a_file(read: Callable[[Path], object], name: str) -> Parse:
    """A parser of a file as one of bytes: they are written to one file, in memory where it can."""
    memory = str(SHARED) if SHARED.is_dir() else None
    folder = tempfile.TemporaryDirectory(prefix="pocket-vlm-parser-", dir=memory)

    def parse(data: bytes) -> object:
        path = Path(folder.name) / name
        path.write_bytes(data)
        return read(path)

    return parse


def _record(data: bytes) -> object:
    try:
        return record.parse(data)
    except ValueError as error:  # it is said of a line that is skipped
        raise UserError(str(error)) from None


PARSERS: Mapping[str, Parser] = {
    "safetensors": Parser(
        in_a_file(read_safetensors, "model.safetensors"), "model/*/*.safetensors"
    ),
    "gguf": Parser(in_a_file(read_gguf, "model.gguf"), "artifact/*/*.gguf"),
    "tokenizer": Parser(
        lambda data: read_tokenizer(data, "tokenizer.json"), "model/*/tokenizer.json"
    ),
    "artifact": Parser(
        in_a_file(lambda path: load_artifact(path.parent), MANIFEST), f"artifact/*/{MANIFEST}"
    ),
    "records": Parser(_record, f"{sound.RECORDS}/*/run.jsonl", lines=True),
    "questions": Parser(
        in_a_file(read_questions, "questions.jsonl"), f"{sound.QUESTIONS}/*/questions.jsonl"
    ),
}
"""name -> parser"""
LIMIT_BYTES = 20_000
"""Longer examples are cut: a fuzzer is slow on them, and headers come first."""


def examples(name: str, root: Path) -> Iterator[bytes]:
    """Sound inputs of a parser, from a folder of sound inputs."""
    parser = PARSERS[name]
    for path in sorted(root.glob(parser.examples)):
        content = path.read_bytes()
        yield from content.splitlines() if parser.lines else [content[:LIMIT_BYTES]]


def outcome(name: str, data: bytes) -> str:
    """The error that refuses the bytes, "" if they are taken. Raises what is not a UserError."""
    try:
        PARSERS[name].parse(data)
    except UserError as error:
        return str(error)
    return ""


def changed_bytes(name: str, data: bytes, chosen: random.Random) -> bytes:
    """The bytes with one value of their JSON changed; b"" if they hold none."""
    start = 8 if name == "safetensors" else 0
    end = start + int.from_bytes(data[:start], "little") if start else len(data)
    lines = data[start:end].split(b"\n")
    place = chosen.randrange(len(lines))
    try:
        content = json.loads(lines[place])
        changed(chosen, content)
        lines[place] = dumped(content).encode()
    except (ValueError, RecursionError):
        return b""
    text = b"\n".join(lines)
    return (len(text).to_bytes(8, "little") if start else b"") + text + data[end:]
