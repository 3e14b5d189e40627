"""Reads a user's calibration questions from a file of JSON lines.

Each line is {"question": …, "image": path or absent, "answer": … or absent}; paths are relative to
the file's folder.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from export.decode import decode
from export.errors import UserError
from export.files import inside, json_lines, json_value
from runtimes.prepare.image import load_image
from runtimes.proof.probes import Probe

MOST_QUESTIONS = 10_000


@dataclass(frozen=True)
class CalibrationQuestion:
    """One line of a file of calibration questions; `image` is a path relative to that file.

    The model is forced to give `answer`; without one, only the prompt is run.
    """

    question: str
    image: str | None = None
    answer: str | None = None


def read_questions(path: Path) -> tuple[Probe, ...]:
    """Returns the questions of a file in order, with their images loaded.

    Neighbouring lines with the same image share it; a missing answer becomes "". Raises UserError,
    with the line's number, for the first line that is invalid, and for an empty or too long file.
    """
    asked = tuple(_probes(path))
    if not 0 < len(asked) <= MOST_QUESTIONS:
        raise UserError(f"{path}: has {len(asked)} questions, expected 1 to {MOST_QUESTIONS}")
    return asked


def _image(path: Path, number: int, name: str) -> Image.Image:
    try:
        return load_image(inside(path.parent, name))
    except UserError as error:
        raise UserError(f"{path}:{number}: {error}") from None


def _probes(path: Path) -> Iterator[Probe]:
    """Yields the question of each line that is not blank; raises UserError for an invalid one."""
    opened: str | None = None
    images: tuple[Image.Image, ...] = ()
    for number, line in json_lines(path):
        try:
            one = decode(CalibrationQuestion, json_value(line))
        except ValueError as error:  # Mismatch is one, too
            raise UserError(
                f"{path}:{number}: {error}; expected "
                '{"question": "…", "image": "path", "answer": "…"}, the last two optional'
            ) from None
        if one.image != opened:
            opened = one.image
            images = () if opened is None else (_image(path, number, opened),)
        yield Probe(f"{path.name}:{number}", images, one.question, one.answer or "")
