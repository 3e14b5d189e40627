"""Finds and runs llama.cpp's own programs, and the files of an artifact that they open."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from export.artifact import Artifact
from export.errors import UserError
from export.files import short
from runtimes.llama_cpp.files import checked_decoder
from runtimes.peers.environments import python
from runtimes.peers.program import last, variables

CONTEXT = 2048


def program(name: str) -> Path:
    """Returns the path of one of llama.cpp's programs. Raises UserError if it is not built."""
    return python("llama.cpp").with_name(name)


def decoder_file(artifact: Artifact) -> Path:
    """Returns the path of the text model. Raises UserError for a damaged file."""
    return checked_decoder(artifact).path


def tower_file(artifact: Artifact) -> Path | None:
    """Returns the path of the file with the image encoder; None if the model takes no images."""
    if artifact.manifest.vlm.vision is None:
        return None
    return artifact.file("vision")


def output(words: Sequence[str]) -> tuple[str, str]:
    """Runs one of the programs; returns what it writes to stdout and stderr.

    Raises UserError with its last line if it fails.
    """
    done = subprocess.run(
        words, capture_output=True, text=True, errors="replace", env=variables(), check=False
    )
    if done.returncode:
        said = short(last(done.stderr.splitlines()), 200)
        name = Path(words[0]).name
        raise UserError(f"{name} ended with exit code {done.returncode} ({said})")
    return done.stdout, done.stderr


def tokens(length: int, first_s: float, step_s: float) -> list[float]:
    """Returns the seconds of each token of an answer: the first, then equal steps."""
    return [first_s, *[step_s] * (length - 1)] if length else []
