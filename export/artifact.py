"""Artifacts on disk: a folder with a target's files and artifact.json, which describes them.

An artifact is written to a temporary sibling folder and renamed at the end, so an interrupted
export leaves nothing that looks like an artifact.
"""

import errno
import fcntl
import glob
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from export.checkpoint import check
from export.decode import Mismatch, decode, encode
from export.digests import remembered
from export.errors import DISK_FULL, UserError
from export.families import FAMILIES
from export.files import few, inside, parse_json, read_file, short
from export.manifest import MANIFEST, SCHEMA, FileFacts, Manifest, signed_name


@dataclass(frozen=True)
class Artifact:
    """An exported model on disk: its folder, and its artifact.json as an object (`manifest`)."""

    path: Path
    manifest: Manifest

    def file(self, component: str, *, signed: bool = False) -> Path:
        """Returns the first file of a component; `signed`: the graph for CPUs on which products of
        signed weights are better (signed_name), where there is one.

        Raises UserError if artifact.json names none.
        """
        files = self.manifest.components.get(component)
        if not files:
            raise UserError(
                f"{self.path / MANIFEST}: components names no file for {component}; export it again"
            )
        other = signed_name(files[0])
        return self.path / (other if signed and other in files else files[0])


PARTIAL, REPLACED = "partial", "replaced"
LONGEST_NAME = 255 - len(f"..{REPLACED}-4194304")  # bytes of a file's name, the largest process id


@contextmanager
def new_folder(out: Path, needs_bytes: int) -> Iterator[Path]:
    """Yields a temporary folder to fill; renames it to `out` when the block ends.

    If the block raises, the folder is removed and `out` stays as it was. An artifact at `out` is
    replaced; any other file or filled folder there is an error before the block begins.
    `needs_bytes`, the estimated size, is only quoted when the disk is full. Raises UserError.
    Signals that stop the process must arrive as exceptions.
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


def digests(folder: Path) -> dict[str, FileFacts]:
    """Returns size and SHA-256 of every file under `folder` except artifact.json, by its path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    found = remembered().of(path for path in paths if path != folder / MANIFEST)
    return {
        path.relative_to(folder).as_posix(): FileFacts(path.stat().st_size, sha256)
        for path, sha256 in found.items()
    }


def save_manifest(manifest: Manifest, folder: Path) -> None:
    """Writes `manifest` as artifact.json into `folder`; it is the last file to be written."""
    text = json.dumps(encode(manifest), indent=1, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def load_artifact(path: Path) -> Artifact:
    """Reads the artifact in the folder `path`.

    Raises UserError unless artifact.json is valid and each file it lists has the stated size.
    """
    where = str(path / MANIFEST)
    if not path.is_dir() or not (path / MANIFEST).exists():
        raise UserError(
            f"{path}: is not an artifact, it has no {MANIFEST}; make one with `python -m export`"
        )
    content = parse_json(read_file(path, MANIFEST), where)
    _expect_schema(content.get("schema"), where)
    try:
        manifest = decode(Manifest, content)
    except Mismatch as error:
        raise UserError(f"{where}: {error}; export it again") from None
    _expect_sound(manifest, where)
    for name, facts in manifest.files.items():
        _expect_file(path, name, facts)
    return Artifact(path, manifest)


def verify_digests(artifact: Artifact) -> None:
    """Raises UserError if the SHA-256 of any file differs from artifact.json.

    Reads every byte, but for files that are remembered (export/digests.py).
    """
    expected = {artifact.path / name: facts for name, facts in artifact.manifest.files.items()}
    found = remembered().of(expected)
    changed = [path for path, facts in expected.items() if found[path] != facts.sha256]
    if changed:
        first, more = changed[0], f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise UserError(
            f"{first}{more} changed since the export: its SHA-256 is {found[first]}, expected "
            f"{expected[first].sha256}; export it again, or copy it again from where it is sound"
        )


def _expect_schema(schema: object, where: str) -> None:
    if type(schema) is not int or schema == SCHEMA:
        return
    remedy = "update PocketVLM" if schema > SCHEMA else "export it again"
    raise UserError(f"{where}: has schema {schema}, expected {SCHEMA}; {remedy}")


def _expect_sound(manifest: Manifest, where: str) -> None:
    if manifest.vlm.family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise UserError(
            f"{where}: vlm.family: expected one of {known}, found {short(manifest.vlm.family)!a}"
        )
    check.numbers(manifest.vlm, where)
    check.recipe(manifest.image, manifest.vlm, where)
    check.prompt(manifest.prompt, manifest.vlm, where)
    named = {name for names in manifest.components.values() for name in names}
    if left := sorted(named - manifest.files.keys()):
        raise UserError(f"{where}: components name {few(left)}, which files does not list")
    if manifest.recipe != manifest.recipe_used.name:
        raise UserError(
            f"{where}: recipe is {short(manifest.recipe)}, but recipe_used makes it "
            f"{short(manifest.recipe_used.name)}; export it again"
        )


def _expect_file(folder: Path, name: str, facts: FileFacts) -> None:
    path = inside(folder, name)
    if not path.is_file():
        raise UserError(f"{path}: is missing, though {MANIFEST} lists it; export it again")
    if (size := path.stat().st_size) != facts.bytes:
        raise UserError(f"{path}: has {size} bytes, expected {facts.bytes}; export it again")


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Makes `folder` and locks it during the block. Raises UserError if it cannot be made.

    The lock also ends with the process, so an unlocked folder was left by a killed export.
    """
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"{folder.parent}: cannot be written to ({error.strerror}); choose another --out"
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
    """Locks an open folder for this process. Raises OSError if another process has locked it."""
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _clear_leftovers(out: Path) -> None:
    """Removes temporary folders that killed exports to `out` left.

    An earlier artifact that such an export had renamed is renamed back to `out`.
    """
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
    if (length := len(os.fsencode(out.name))) > LONGEST_NAME:
        raise UserError(
            f"{short(str(out))}: the folder's name has {length} bytes, expected at most "
            f"{LONGEST_NAME}; choose another --out"
        )
    if not os.path.lexists(out) or (out / MANIFEST).is_file():
        return
    if not out.is_dir() or any(out.iterdir()):
        raise UserError(
            f"{out}: exists and is not an artifact, so it is not replaced; "
            f"choose another --out or remove it"
        )


def _replace(folder: Path, out: Path) -> None:
    """Renames `folder` to `out`.

    An artifact at `out` is renamed first; it is put back if this fails, otherwise removed.
    """
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
    """Flushes all files under `folder` to the disk."""
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
