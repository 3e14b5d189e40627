"""An artifact: a folder of a target's files and artifact.json, which says what they are.

Written to a temporary sibling and renamed at the end, so an interrupted export leaves nothing.
NOT aware of how the files are made or run.
"""

import errno
import fcntl
import glob
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from export.checkpoint import check
from export.decode import Mismatch, decode
from export.errors import UserError
from export.files import few, inside, parse_json, read_file, sha256_of
from export.images import ImageRecipe
from export.modeling.vlm import Vlm
from export.prompts import PromptRecipe

MANIFEST = "artifact.json"
SCHEMA = 1


@dataclass(frozen=True)
class Manifest:
    """What artifact.json holds (JSON keys are the field names)."""

    schema: int
    model: str
    """Name in models.yaml, or the folder's name for a local checkpoint."""
    origin: Mapping[str, Any]
    """Weights.origin: hub id and revision, or files' digests, or the seed of synthetic weights."""
    synthetic: bool
    vlm: Vlm
    image: ImageRecipe | None
    prompt: PromptRecipe
    target: str
    recipe: str
    layout: str
    files: Mapping[str, Mapping[str, Any]]
    """relative path -> {"bytes": int, "sha256": str}; artifact.json itself is not listed."""
    components: Mapping[str, tuple[str, ...]]
    quantization: Mapping[str, Any]
    details: Mapping[str, Any]
    tools: Mapping[str, str]
    proof: Mapping[str, Any] | None


@dataclass(frozen=True)
class Artifact:
    """An artifact on disk whose manifest was read and whose files are there."""

    path: Path
    manifest: Manifest


DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
PARTIAL, REPLACED = "partial", "replaced"


@contextmanager
def new_folder(out: Path, needs_bytes: int) -> Iterator[Path]:
    """A folder to fill, which becomes `out` if the block ends well and vanishes if it does not.

    An artifact that is at `out` already is replaced at that moment, anything else there is an
    error before the block begins. `needs_bytes`, about what will be written, is for the error
    message of a full disk. Raises UserError. Stopping signals must arrive as exceptions.
    """
    out = Path(os.path.realpath(out))
    _expect_replaceable(out)
    folder = out.with_name(f".{out.name}.{PARTIAL}-{os.getpid()}")
    _clear_leftovers(out)
    try:
        with _made(folder):
            yield folder
            _sync(folder)
            _replace(folder, out)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise _disk_full(out, folder, needs_bytes) from None
        if error.errno == errno.EFBIG:
            raise UserError(
                f"{out.parent}: files there cannot be as large as this needs (about "
                f"{needs_bytes / 1e6:.0f} MB in all); choose another --out or raise the limit"
            ) from None
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def digests(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Bytes and SHA-256 of every file under `folder` but artifact.json, by relative path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": sha256_of(path),
        }
        for path in paths
        if path != folder / MANIFEST
    }


def save_manifest(manifest: Manifest, folder: Path) -> None:
    """Write artifact.json, the last file of an artifact."""
    text = json.dumps(asdict(manifest), indent=1, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def load_artifact(path: Path) -> Artifact:
    """The artifact in a folder. Raises UserError unless its files are there in their sizes."""
    where = str(path / MANIFEST)
    if not path.is_dir() or not (path / MANIFEST).exists():
        raise UserError(
            f"{path}: is no artifact, it has no {MANIFEST}; make one with `python -m export`"
        )
    content = parse_json(read_file(path, MANIFEST), where)
    schema = content.get("schema")
    if type(schema) is int and schema > SCHEMA:
        raise UserError(f"{where}: has schema {schema}, this is for {SCHEMA}; update PocketVLM")
    try:
        manifest = decode(Manifest, content)
    except Mismatch as error:
        raise UserError(f"{where}: {error}; export it again") from None
    _expect_sound(manifest, where)
    for name, facts in manifest.files.items():
        _expect_file(path, name, facts)
    return Artifact(path, manifest)


def verify_digests(artifact: Artifact) -> None:
    """Raises UserError if a file is not the one that was exported. Reads every byte."""
    changed = [
        name
        for name, facts in artifact.manifest.files.items()
        if sha256_of(artifact.path / name) != facts["sha256"]
    ]
    if changed:
        raise UserError(
            f"{artifact.path}: {few(changed)} not as exported (SHA-256 differs); export it again"
        )


def _expect_sound(manifest: Manifest, where: str) -> None:
    if manifest.schema != SCHEMA:
        raise UserError(
            f"{where}: has schema {manifest.schema}, expected {SCHEMA}; export it again"
        )
    check.numbers(manifest.vlm, where)
    check.recipe(manifest.image, manifest.vlm, where)
    named = {name for names in manifest.components.values() for name in names}
    if left := sorted(named - manifest.files.keys()):
        raise UserError(f"{where}: components name {few(left)}, which files does not list")


def _expect_file(folder: Path, name: str, facts: Mapping[str, Any]) -> None:
    path = inside(folder, name)
    match facts:
        case {"bytes": int(expected), "sha256": str()} if len(facts) == 2:
            pass
        case _:
            raise UserError(f"{folder / MANIFEST}: {name} lacks bytes and sha256; export it again")
    if not path.is_file():
        raise UserError(f"{path}: is missing, though {MANIFEST} lists it; export it again")
    if (found := path.stat().st_size) != expected:
        raise UserError(f"{path}: has {found} bytes, expected {expected}; export it again")


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """A new folder, locked while this process lives: so leftovers are told from others' work."""
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"{folder.parent}: nothing can be written there ({error.strerror}); "
            f"choose another --out"
        ) from None
    with _opened(folder) as handle:
        with suppress(OSError):  # not every file system has locks
            _lock(handle)
        yield


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)


def _lock(handle: int) -> None:
    """Raises OSError while another process has the lock, which ends with its process."""
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _clear_leftovers(out: Path) -> None:
    """Remove what killed exports to `out` left, but put back an artifact that one had set aside."""
    for left in out.parent.glob(f".{glob.escape(out.name)}.*"):
        kind, _, number = left.name.removeprefix(f".{out.name}.").partition("-")
        if kind not in (PARTIAL, REPLACED) or not number.isdecimal():
            continue
        with suppress(OSError), _opened(left) as handle:
            _lock(handle)
            if kind == REPLACED and not os.path.lexists(out):
                left.rename(out)
            else:
                shutil.rmtree(left, ignore_errors=True)


def _expect_replaceable(out: Path) -> None:
    if not out.name:
        raise UserError(f"{out}: cannot be an artifact's folder; choose another --out")
    if not os.path.lexists(out) or (out / MANIFEST).is_file():
        return
    if not out.is_dir() or any(out.iterdir()):
        raise UserError(
            f"{out}: is there already and is no artifact, so it is not replaced; "
            f"choose another --out or remove it"
        )


def _replace(folder: Path, out: Path) -> None:
    """Rename `folder` to `out`; what was there is put aside first, and back if that fails."""
    aside = out.with_name(f".{out.name}.{REPLACED}-{os.getpid()}")
    with suppress(FileNotFoundError):
        out.rename(aside)
    try:
        folder.rename(out)
    except BaseException:
        with suppress(FileNotFoundError):
            aside.rename(out)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Have the disk hold the files before the folder gets its name."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _disk_full(out: Path, folder: Path, needs_bytes: int) -> UserError:
    written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free + written
    return UserError(
        f"no space left on the disk of {out.parent}: needs about {needs_bytes / 1e6:.0f} MB, has "
        f"{free / 1e6:.0f} MB; free some or choose another --out"
    )
