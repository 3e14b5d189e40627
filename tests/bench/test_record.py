"""Records are read as they were written; damaged lines are reported."""

import json
import math
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from bench.record import Item, Outcome, Record, append, parse, read
from export.errors import UserError
from export.quantize.recipe import RecipeUsed


def test_records_are_read_as_they_were_written(tmp_path: Path, records: list[Record]) -> None:
    path = tmp_path / "run.jsonl"
    for record in records:
        append(path, record)
    found, damages = read([path])
    assert found == records
    assert damages == []
    assert {json.loads(line)["schema"] for line in path.read_text().splitlines()} == {1}


def test_damaged_lines_are_reported_by_number_and_the_rest_is_read(
    tmp_path: Path, records: list[Record]
) -> None:
    path = tmp_path / "run.jsonl"
    append(path, records[0])
    whole = path.read_text().strip()
    value = json.loads(whole)
    lines = {
        2: whole[:-20],
        3: "[" * 100_000,
        4: json.dumps(value | {"schema": 99}),
        5: json.dumps(value | {"surplus": 1}),
        6: json.dumps(value | {"status": "fine"}),
        7: json.dumps({key: value[key] for key in value if key != "case"}),
        8: json.dumps(value | {"wall_s": "long"}),
        9: whole.replace("Imaginary", "Imagin\udc80ry"),
    }
    text = "\n".join([whole, *lines.values(), "", whole]) + "\n"
    path.write_bytes(text.encode(errors="surrogateescape"))
    found, damages = read([path])
    assert found == [records[0]]  # written twice
    assert [damage.line for damage in damages] == list(lines)
    reasons = " ".join(str(damage) for damage in damages)
    newer = "has schema 99, this is for 1; update PocketVLM"
    parts = ("run.jsonl:2:", newer, "'surplus'", "'fine'", "case: missing", "wall_s", "not UTF-8")
    for part in parts:
        assert part in reasons


def test_a_name_of_a_recipe_is_never_parsed(records: list[Record]) -> None:
    value = json.loads(json.dumps(asdict(records[2])))
    value["case"]["subject"] |= {"recipe": "int4", "recipe_used": None}
    assert parse(json.dumps(value).encode()).case.subject.used == RecipeUsed("int4")
    value["case"]["subject"] |= {"recipe": "int4-nearest"}
    with pytest.raises(ValueError, match="recipe int4-nearest without recipe_used"):
        parse(json.dumps(value).encode())
    value["case"]["subject"] |= {"recipe_used": {"base": "int4", "rounding": "nearest"}}
    used = parse(json.dumps(value).encode()).case.subject.used
    assert used == RecipeUsed("int4", "nearest")


def test_an_answer_may_hold_any_character(tmp_path: Path, records: list[Record]) -> None:
    path = tmp_path / "run.jsonl"
    items = (Item("0/0", "a\u2028b\x85c\nd\x1e\ud800", False),)
    record = replace(records[0], outcome=Outcome(items=items))
    again = replace(record, wall_s=2.5)
    append(path, record)
    append(path, again)
    assert read([path, path]) == ([record, again], [])


FULL_DISK = """
import resource, sys
from pathlib import Path
from typing import Any
from bench.record import append, read
from export.errors import UserError
from export.quantize.recipe import RecipeUsed
path = Path(sys.argv[1])
(record,), _ = read([path])
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, resource.RLIM_INFINITY))
try:
    append(path, record)
except UserError as error:
    sys.stdout.write(str(error))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a limit stands in for a full disk")
def test_a_partly_written_line_is_removed(tmp_path: Path, records: list[Record]) -> None:
    path = tmp_path / "run.jsonl"
    append(path, records[0])
    before = path.read_bytes()
    command = [sys.executable, "-c", FULL_DISK, str(path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert "cannot be written (File too large); its records so far are intact" in done.stdout
    assert path.read_bytes() == before


def test_a_missing_run_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read([tmp_path / "none.jsonl"])


def test_nan_is_not_written(tmp_path: Path, records: list[Record]) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        append(tmp_path / "run.jsonl", replace(records[0], wall_s=math.nan))
    assert not (tmp_path / "run.jsonl").exists()


def test_absent_is_none_and_never_zero(records: list[Record]) -> None:
    line = '"wall_s": null'
    record = replace(records[0], wall_s=None)
    from dataclasses import asdict

    assert line in json.dumps(asdict(record))
    assert parse(json.dumps(asdict(record)).encode()).wall_s is None


def put(value: Any, path: tuple[str, ...], new: object) -> Any:
    """A copy of parsed JSON with another value at a path of keys; * stands for every key."""
    if not path:
        return new
    first, *rest = path
    names = list(value) if first == "*" else [first]
    return value | {name: put(value[name], tuple(rest), new) for name in names}


FREE: dict[str, tuple[tuple[str, ...], object]] = {
    "text for bytes": (("case", "subject", "quantization", "components", "*", "weight_bytes"), "x"),
    "text for a component": (("case", "subject", "quantization", "components", "*"), "x"),
    "a number for a type": (("case", "subject", "quantization", "types"), {"F32": "many"}),
    "text for a fallback": (("case", "subject", "quantization", "fallbacks"), ["x"]),
    "text for a check": (("case", "subject", "proof", "checks", "logits"), "good"),
    "a version that is none": (("environment", "packages"), {"numpy": 2}),
    "text for a rate": (("outcome", "load_s"), "fast"),
    "too large a number": (("case", "subject", "disk_bytes"), 10**400),
    "a list for the origin": (("case", "subject", "origin"), []),
}


@pytest.mark.parametrize("name", FREE)
def test_a_record_with_a_wrong_value_anywhere_is_a_skipped_line(
    name: str, tmp_path: Path, records: list[Record]
) -> None:
    path, new = FREE[name]
    sound = json.loads(json.dumps(asdict(records[2])))
    (tmp_path / "run.jsonl").write_text(
        f"{json.dumps(put(sound, path, new))}\n{json.dumps(sound)}\n"
    )
    found, (damage,) = read([tmp_path / "run.jsonl"])
    assert found == [records[2]]
    assert (damage.line, ".".join(path[:-2]) in damage.reason) == (1, True)
