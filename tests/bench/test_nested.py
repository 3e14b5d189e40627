"""JSON from outside: every reader refuses what is nested without end, and splits at line feeds."""

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from bench.analysis.baselines import load
from bench.commands.export_cost import read as read_costs
from bench.record import read
from bench.tasks.journal import Journal
from bench.tasks.public_rows import DatasetLocation, DatasetRows
from export.artifact import load_artifact
from export.checkpoint.registry import open_model
from export.decode import Mismatch, decode
from export.errors import UserError
from export.families.smolvlm import SMOLVLM
from export.files import NESTED_LIMIT, json_lines, json_value
from export.gguf.tokenizer import tokenizer_metadata
from runtimes.calibrate.questions import read_questions
from tests.export.checkpoints import make

DEEP = {
    "by far": b"[" * 100_000,
    "whole": b'{"a":' * 500 + b"1" + b"}" * 500,
    "just": b"[" * (NESTED_LIMIT + 1) + b"]" * (NESTED_LIMIT + 1),
}
"""Python's own parser raises RecursionError on the first; on the second what follows it may."""


def checkpoint(name: str) -> Callable[[Path, bytes], str]:
    def refused(folder: Path, nested: bytes) -> str:
        path = make(folder / "model") / name
        header = struct.pack("<Q", len(nested)) if name == "model.safetensors" else b""
        path.write_bytes(header + nested)
        with pytest.raises(UserError) as caught:
            open_model(str(path.parent))
        return str(caught.value)

    return refused


def artifact(folder: Path, nested: bytes) -> str:
    (folder / "artifact.json").write_bytes(nested)
    with pytest.raises(UserError) as caught:
        load_artifact(folder)
    return str(caught.value)


def gguf(folder: Path, nested: bytes) -> str:
    model = open_model("tiny-smolvlm")
    files = dict(model.files) | {"tokenizer_config.json": nested}
    with pytest.raises(UserError) as caught:
        tokenizer_metadata(files, model.vlm, SMOLVLM.gguf)
    return str(caught.value)


def record(folder: Path, nested: bytes) -> str:
    (folder / "run.jsonl").write_bytes(nested)
    records, (damage,) = read([folder / "run.jsonl"])
    assert records == []
    return str(damage)


def of_file(reader: Callable[[Path], object]) -> Callable[[Path, bytes], str]:
    def refused(folder: Path, nested: bytes) -> str:
        (folder / "file.jsonl").write_bytes(nested)
        with pytest.raises(UserError) as caught:
            reader(folder / "file.jsonl")
        return str(caught.value)

    return refused


READERS: Mapping[str, Callable[[Path, bytes], str]] = {
    "config.json": checkpoint("config.json"),
    "preprocessor_config.json": checkpoint("preprocessor_config.json"),
    "generation_config.json": checkpoint("generation_config.json"),
    "safetensors": checkpoint("model.safetensors"),
    "tokenizer.json": checkpoint("tokenizer.json"),
    "artifact.json": artifact,
    "tokenizer in GGUF": gguf,
    "record": record,
    "calibration question": of_file(read_questions),
    "baseline": of_file(load),
    "cost of an export": of_file(read_costs),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("nested", DEEP.values(), ids=DEEP)
def test_what_is_nested_without_end_is_refused_in_one_line(
    name: str, nested: bytes, tmp_path: Path
) -> None:
    said = READERS[name](tmp_path, nested)
    assert "\n" not in said
    assert len(said) < 500


@pytest.mark.parametrize("nested", DEEP.values(), ids=DEEP)
def test_a_nested_row_is_a_bad_row_and_a_nested_line_ends_a_journal(
    nested: bytes, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"a": "1"}\n' + nested + b'\n{"a": "3"}\n')
    rows = DatasetRows(DatasetLocation("d", None, "test", None, tmp_path), ("a",))
    assert [rows.row(n) for n in range(3)] == [{"a": "1"}, None, {"a": "3"}]
    (tmp_path / "items").write_bytes(b'{"id": "1", "reason": "x"}\n' + nested + b"\n")
    journal = Journal(tmp_path / "items")
    journal.close()
    assert journal.known == {"1"}


def test_json_is_read_up_to_the_limit_of_nesting() -> None:
    inner: object = "[[["  # brackets in texts do not count
    for _ in range(NESTED_LIMIT - 1):
        inner = [inner]
    assert json_value(json.dumps({"a": inner}).encode()) == {"a": inner}
    with pytest.raises(ValueError, match=f"nested too deeply: over {NESTED_LIMIT} "):
        json_value(json.dumps([{"a": inner}]).encode())
    with pytest.raises(ValueError, match="utf-8"):
        json_value("[]".encode("utf-16"))


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"])
def test_only_a_line_feed_ends_a_line(separator: str, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(f"\ufeff1{separator}1\n\n \n2\r\n3".encode())
    lines = [(1, f"1{separator}1".encode()), (4, b"2\r"), (5, b"3")]
    assert json_lines(path) == lines


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "1" + "0" * 400])
@pytest.mark.parametrize("kind", [float, int | None])
def test_numbers_that_no_float_holds_are_refused(kind: type, number: str) -> None:
    with pytest.raises(Mismatch, match="x: expected"):
        decode(kind, json.loads(number), "x")


def test_a_line_that_is_no_cost_is_named_before_the_export(tmp_path: Path) -> None:
    path = tmp_path / "exports.jsonl"
    path.write_text('\n{"model": "x"}\n')
    with pytest.raises(UserError, match=r"exports\.jsonl:2: is not the cost of an export"):
        read_costs(path)
    assert read_costs(tmp_path / "none.jsonl") == []
