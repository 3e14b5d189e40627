"""Makes Python environments of their own for programs that want other versions than ours.

An environment is made by `venv` and pip from a lock, a list of pinned requirements. It is kept in
the user's cache folder under a name with the digest of all that it is made from, and used again as
long as that is the same.
"""

import hashlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from export.cache import cache_folder
from export.errors import UserError
from export.files import short

NEW, LOCKED = ".new", ".lock"
DIGEST = 12
"""Hexadecimal digits of the digest in a folder's name."""


@dataclass(frozen=True)
class Environment:
    """What an environment is made from. `name` begins its folder's name.

    `lock` is the content of pip's requirements file. It names every package, because pip looks for
    none beside them, unless `resolve` is True. `finish` adds what pip cannot install; it gets the
    folder, and `finished_with` is a text that changes with what it adds. `remedy` is the command
    that makes the environment.
    """

    name: str
    lock: str
    resolve: bool = False
    finish: Callable[[Path], None] | None = None
    finished_with: str = ""
    remedy: str = "make peers"

    @property
    def digest(self) -> str:
        """The SHA-256 of all that it is made from, the interpreter included; hexadecimal."""
        python = (platform.python_implementation(), platform.python_version())
        parts = (self.lock, str(self.resolve), self.finished_with, *python, platform.machine())
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def folder(self, cache: Path | None = None) -> Path:
        """Returns where it is, once it is made. `cache`: see `make`."""
        return (cache or default_cache()) / f"{self.name}-{self.digest[:DIGEST]}"

    def version(self, distribution: str) -> str | None:
        """Returns the version of a package that the lock pins; None if it names none."""
        for line in self.lock.splitlines():
            name, equal, version = line.partition("#")[0].strip().partition("==")
            if equal and name.lower() == distribution.lower():
                return version
        return None


def default_cache() -> Path:
    """Returns the folder of all environments. Raises UserError where there is no cache folder."""
    folder = cache_folder()
    if folder is None:
        raise UserError("there is no folder for environments; name one with XDG_CACHE_HOME")
    return folder / "environments"


def python_of(environment: Environment, cache: Path | None = None) -> Path | None:
    """Returns the environment's interpreter; None if the environment is not made yet."""
    python = _python(environment.folder(cache))
    return python if python.exists() else None


def make(
    environment: Environment,
    *,
    cache: Path | None = None,
    notify: Callable[[str], None] = lambda text: None,
) -> Path:
    """Makes the environment unless it is there, and returns its interpreter.

    `cache` is the folder of all environments (default: default_cache()). `notify` gets a sentence
    before something that takes long. It is made beside its place and renamed at the end, so it is
    whole or not there; a second process waits for the first. Run its programs as
    `python -m MODULE`: scripts in its folder `bin` name the place where it was made. Raises
    UserError if the folder cannot be written, or if pip fails.
    """
    folder = environment.folder(cache)
    if not _python(folder).exists():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _alone(folder.with_name(folder.name + LOCKED)):
                if not _python(folder).exists():
                    _make(environment, folder, notify)
        except OSError as error:
            raise UserError(
                f"{folder}: cannot be written ({error.strerror}); free some space, or name another "
                f"folder with XDG_CACHE_HOME"
            ) from None
    return _python(folder)


def _make(environment: Environment, folder: Path, notify: Callable[[str], None]) -> None:
    notify(f"making the environment {environment.name} in {folder}")
    beside = folder.with_name(folder.name + NEW)
    shutil.rmtree(beside, ignore_errors=True)  # of a process that was killed
    shutil.rmtree(folder, ignore_errors=True)
    try:
        venv = [sys.executable, "-m", "venv", "--without-pip", str(beside)]
        run(venv, environment, "venv failed")
        (beside / "lock.txt").write_text(environment.lock, encoding="utf-8")
        options = [] if environment.resolve else ["--no-deps"]
        words = [*options, "-r", str(beside / "lock.txt")]
        run([*pip(beside), "install", *words], environment, "pip could not install its packages")
        if environment.finish is not None:
            environment.finish(beside)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def pip(folder: Path) -> list[str]:
    """Returns the beginning of a command line of our pip for the environment of a folder."""
    ours = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    return [*ours, "--python", str(_python(folder))]


def run(command: list[str], environment: Environment, problem: str) -> None:
    """Runs one step of making an environment.

    Raises UserError, beginning with the environment's name and the `problem`, if it fails.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False
        )
        said = done.stderr or done.stdout
    except FileNotFoundError as error:
        said, done = f"{error.filename} is not installed", None
    if done is None or done.returncode:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        named = [line for line in lines if line.lower().startswith("error")] or lines[-1:]
        reason = short(named[0] if named else "it said nothing", 300)
        raise UserError(
            f"{environment.name}: {problem} ({reason}); mend that, then run {environment.remedy}"
        )


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Context manager: waits until no other process is in it with the same path.

    The system ends the lock with the process that holds it.
    """
    with path.open("w") as file:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
