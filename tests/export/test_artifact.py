"""Artifacts appear whole or not at all, and are believed only as far as they can be checked."""

import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from export.artifact import digests, load_artifact, new_folder, save_manifest, verify_digests
from export.decode import Mismatch, decode, encode
from export.errors import UserError
from export.families.section import Section
from export.families.smolvlm import SMOLVLM
from export.manifest import SCHEMA, Details, Manifest, Quantization, Share
from export.prompts import PromptTask, Templates
from export.quantize.recipe import Calibration, RecipeUsed
from tests.export.checkpoints import CONFIG, PREPROCESSOR

VLM = SMOLVLM.read(Section(CONFIG, "config.json"))
TEMPLATES = Templates(start=(1,), placeholder=3, image_positions=16, tasks={})
NEGATIVE = PromptTask(before=(5, -1), opening="", closing="", after=())
USED = RecipeUsed("int4", "nearest", 12.5, Calibration("own.jsonl", "0" * 64, 3))


def fill(folder: Path, content: bytes = b"weights") -> None:
    """Make `folder` a complete artifact with one file."""
    (folder / "sub").mkdir()
    (folder / "sub" / "graph.bin").write_bytes(content)
    save_manifest(manifest(folder), folder)


def manifest(folder: Path) -> Manifest:
    return Manifest(
        schema=SCHEMA,
        model="tiny",
        origin={"synthetic": {"seed": 0}},
        synthetic=True,
        vlm=VLM,
        image=SMOLVLM.image(VLM, Section(PREPROCESSOR, "preprocessor_config.json")),
        prompt=SMOLVLM.prompt(VLM, Section({}, "config.json")),
        target="onnx",
        recipe=USED.name,
        recipe_used=USED,
        layout="native",
        files=digests(folder),
        components={"decoder": ("sub/graph.bin",)},
        quantization=Quantization.of({"decoder": Share(16, 16, 9)}, {"Q4_0": 16}, ()),
        details=Details(limits=("a limit",)),
        tools={"python": "3"},
        proof=None,
    )


@pytest.fixture
def made(tmp_path: Path) -> Path:
    with new_folder(tmp_path / "out", 10) as folder:
        fill(folder)
    return tmp_path / "out"


def write_half(out: Path, error: BaseException) -> None:
    with new_folder(out, 10) as folder:
        (folder / "half").write_bytes(b"x")
        raise error


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_is_what_is_loaded(made: Path) -> None:
    artifact = load_artifact(made)
    assert artifact.manifest == manifest(made)
    assert list(artifact.manifest.files) == ["sub/graph.bin"]
    assert artifact.manifest.files["sub/graph.bin"].bytes == 7
    verify_digests(artifact)
    assert names(made.parent) == ["out"]


def test_the_folder_gets_its_name_at_the_end(tmp_path: Path) -> None:
    with new_folder(tmp_path / "deep" / "out", 10) as folder:
        assert names(tmp_path / "deep") == [folder.name]
        assert folder.name == f".out.partial-{os.getpid()}"
    assert names(tmp_path / "deep") == ["out"]


@pytest.mark.parametrize("error", [ValueError, UserError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_old_artifact_and_nothing_else(
    made: Path, error: type[BaseException]
) -> None:
    with pytest.raises(error):
        write_half(made, error())
    assert load_artifact(made).manifest == manifest(made)
    assert names(made.parent) == ["out"]


def test_a_new_artifact_replaces_the_old_one(made: Path) -> None:
    with new_folder(made, 10) as folder:
        fill(folder, b"other weights")
        assert load_artifact(made).manifest.files["sub/graph.bin"].bytes == 7
    assert load_artifact(made).manifest.files["sub/graph.bin"].bytes == 13
    assert names(made.parent) == ["out"]


def test_an_artifact_behind_a_link_is_replaced_there(made: Path) -> None:
    (made.parent / "link").symlink_to("out")
    with new_folder(made.parent / "link", 10) as folder:
        fill(folder, b"other weights")
    assert (made.parent / "link").is_symlink()
    assert load_artifact(made).manifest.files["sub/graph.bin"].bytes == 13


def test_an_empty_folder_becomes_the_artifact(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with new_folder(tmp_path / "out", 10) as folder:
        fill(folder)
    assert load_artifact(tmp_path / "out")


def test_a_folder_with_other_files_is_refused_and_unchanged(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years")
    with pytest.raises(UserError, match="is not an artifact, so it is not replaced"):
        new_folder(tmp_path / "out", 10).__enter__()
    assert names(tmp_path) == ["out"]


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="not replaced"):
        new_folder(tmp_path / "out", 10).__enter__()
    with pytest.raises(UserError, match="cannot be written to"):
        new_folder(tmp_path / "out" / "below", 10).__enter__()


def test_a_full_disk_is_one_line_with_the_needed_bytes(tmp_path: Path) -> None:
    expected = f"no space left on the disk of {tmp_path}: needs about 5000 MB, has "
    with pytest.raises(UserError, match=expected), new_folder(tmp_path / "out", 5 * 10**9):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert names(tmp_path) == []


Edit = Callable[[dict[str, Any], Path], Any]


def text(change: Callable[[str], str]) -> Edit:
    def edit(_: dict[str, Any], folder: Path) -> None:
        path = folder / "artifact.json"
        path.write_text(change(path.read_text()))

    return edit


def name_outside(name: str) -> Edit:
    return lambda content, _: content["files"].update({name: {"bytes": 1, "sha256": "0"}})


def link_out(_: dict[str, Any], folder: Path) -> None:
    (folder.parent / "elsewhere").write_bytes(b"weights")
    (folder / "sub" / "graph.bin").unlink()
    (folder / "sub" / "graph.bin").symlink_to("../../elsewhere")


BROKEN: dict[str, tuple[Edit, str]] = {
    "not JSON": (text(lambda t: t[:-9]), "is not valid JSON"),
    "an array": (text(lambda t: "[]"), "expected an object"),
    "newer": (lambda c, _: c.update(schema=SCHEMA + 1), "update PocketVLM"),
    "older": (lambda c, _: c.update(schema=1), "has schema 1, expected 2; export it again"),
    "schema of text": (lambda c, _: c.update(schema="2"), "schema: expected an integer"),
    "unknown key": (lambda c, _: c.update(more=1), "unknown key 'more'"),
    "missing key": (lambda c, _: c.pop("recipe"), "recipe: missing"),
    "unknown key below": (lambda c, _: c["vlm"].update(more=1), "vlm: unknown key 'more'"),
    "wrong type": (lambda c, _: c["vlm"]["text"].update(heads="4"), "vlm.text.heads: expected an"),
    "bool for int": (lambda c, _: c["image"].update(tile=True), "image.tile: expected an integer"),
    "two channels": (lambda c, _: c["image"].update(mean=[0, 0]), "image.mean: expected 3 values"),
    "unknown literal": (lambda c, _: c["image"].update(resample="box"), "expected one of lanczos"),
    "unknown kind": (lambda c, _: c["image"].update(kind="x"), "expected one of tiles, stretch"),
    "another kind": (lambda c, _: c["image"].update(kind="stretch"), "image: unknown key"),
    "kind of a list": (lambda c, _: c["image"].update(kind=[]), "expected one of tiles, stretch"),
    "absurd size": (lambda c, _: c["vlm"]["text"].update(layers=10**9), "expected 1 to 1024"),
    "other tile": (lambda c, _: c["image"].update(tile=7), "tiles of 7 pixels"),
    "file missing": (lambda c, f: (f / "sub" / "graph.bin").unlink(), "is missing, though"),
    "file shorter": (lambda c, f: (f / "sub" / "graph.bin").write_bytes(b"w"), "has 1 bytes"),
    "file linked out": (link_out, "links out of the folder"),
    "path above": (name_outside("../x"), "not a plain path inside"),
    "path elsewhere": (name_outside("/etc/passwd"), "not a plain path inside"),
    "bytes as text": (
        lambda c, _: c["files"].update(a={"bytes": "7", "sha256": "0"}),
        "files.a.bytes: expected an integer",
    ),
    "no digest": (lambda c, _: c["files"].update(a={"bytes": 7}), "files.a.sha256: missing"),
    "another recipe": (lambda c, _: c.update(recipe="int8"), "recipe is int8, but recipe_used"),
    "unknown rounding": (
        lambda c, _: c["recipe_used"].update(rounding="up"),
        "recipe_used.rounding: expected one of search, nearest",
    ),
    "no types": (lambda c, _: c["quantization"].pop("types"), "quantization.types: missing"),
    "share of text": (
        lambda c, _: c["quantization"]["components"]["decoder"].update(parameters="1"),
        "quantization.components.decoder.parameters: expected an integer",
    ),
    "half a surrogate pair": (
        lambda c, _: c["vlm"].update(family="\ud800"),
        r", internvl, found '\ud800'",
    ),
    "other image tokens": (
        lambda c, _: c["prompt"].update(tokens_per_tile=12),
        "prompt.tokens_per_tile is 12, but the vision tower's features are",
    ),
    "an id outside of the vocabulary": (
        lambda c, _: c.update(prompt=encode(replace(TEMPLATES, tasks={"query": NEGATIVE}))),
        "the template of query has the id -1, but the vocabulary has",
    ),
    "unlisted component": (lambda c, _: c["components"].update(x=["y"]), "components name y"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_artifact_is_one_line_with_the_key(made: Path, case: str) -> None:
    edit, expected = BROKEN[case]
    content = json.loads((made / "artifact.json").read_text())
    before = json.dumps(content)
    edit(content, made)
    if json.dumps(content) != before:
        (made / "artifact.json").write_text(json.dumps(content))
    with pytest.raises(UserError) as raised:
        load_artifact(made)
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="is not an artifact"):
            load_artifact(path)


def test_a_folder_whose_temporary_name_would_be_too_long_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match="name has 250 bytes, expected at most 237; choose another"),
        new_folder(tmp_path / ("x" * 250), 0),
    ):
        pass
    with new_folder(tmp_path / ("x" * 237), 0):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["x" * 237]


def test_a_changed_byte_is_found_by_its_digest(made: Path) -> None:
    (made / "sub" / "graph.bin").write_bytes(b"weighty")
    with pytest.raises(UserError, match=r"graph\.bin changed since the export"):
        verify_digests(load_artifact(made))


@dataclass(frozen=True)
class Sample:
    count: int
    share: float
    kind: Literal["a", "b"]
    pair: tuple[int, str]
    names: tuple[str, ...] = ()
    table: dict[str, int] | None = None


SAMPLE = {"count": 1, "share": 1, "kind": "b", "pair": [1, "x"], "names": ["y", "z"]}


def test_decoding_follows_the_types() -> None:
    assert decode(Sample, SAMPLE) == Sample(1, 1.0, "b", (1, "x"), ("y", "z"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"count": 1.0}, "count: expected an integer, found '1.0'"),
        ({"share": "x"}, "share: expected a number"),
        ({"kind": "c"}, "kind: expected one of a, b"),
        ({"pair": [1]}, "pair: expected 2 values"),
        ({"pair": [1, 2]}, r"pair\[1\]: expected a string"),
        ({"names": "yz"}, "names: expected a list"),
    ],
)
def test_a_mismatch_names_the_dotted_path(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(Mismatch, match=expected):
        decode(Sample, SAMPLE | change)
