"""Questions of a user's own from a file of JSON lines, to calibrate with.

Each line is {"question": …, "image": path or absent, "answer": … or absent}; paths start from the
file's folder. NOT aware of what the questions are used for.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from export.decode import Mismatch, decode
from export.errors import UserError
from export.files import inside
from runtimes.prepare.image import load_image
from runtimes.proof.probes import Probe

MOST_QUESTIONS = 10_000


@dataclass(frozen=True)
class Question:
    question: str
    image: str | None = None
    answer: str | None = None


def read_questions(path: Path) -> tuple[Probe, ...]:
    """All of them; an image is opened once for neighbouring lines. Raises UserError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise UserError(f"{path}: cannot be read ({reason})") from None
    found = tuple(_probes(path, lines))
    if not 0 < len(found) <= MOST_QUESTIONS:
        raise UserError(f"{path}: has {len(found)} questions, expected 1 to {MOST_QUESTIONS}")
    return found


def _probes(path: Path, lines: list[str]) -> Iterator[Probe]:
    opened: str | None = None
    images: tuple[Image.Image, ...] = ()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            one = decode(Question, json.loads(line))
        except (Mismatch, ValueError, RecursionError) as error:
            raise UserError(
                f"{path}:{number}: {error}; expected "
                '{"question": "…", "image": "path", "answer": "…"}, the last two optional'
            ) from None
        if one.image != opened:
            opened = one.image
            images = () if opened is None else (load_image(inside(path.parent, opened)),)
        yield Probe(f"{path.name}:{number}", images, one.question, one.answer or "")
