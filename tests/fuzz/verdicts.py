"""Judges how a command ended: as it should, or with a finding.

It should succeed, or end with one line that begins `error: ` or `bench: ` and exit code 2 (1 for a
failed proof or a regression), with everything in its place and nothing half-written.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from export.artifact import MANIFEST, load_artifact, verify_digests
from export.errors import UserError
from tests.fuzz.kinds import OK, REFUSED, WORSE, Made

SECONDS = 60.0
MEMORY_BYTES = 1 << 30
LONGEST = 1200
"""Characters of an error's line."""
INTERRUPTED = "interrupted"
TRACES = ("Traceback (most recent call last)", "Exception ignored in", "core dumped", "GGML_ASSERT")
WARNING = re.compile(r"^\S+:\d+: \w*Warning: ", re.MULTILINE)
PREFIX = re.compile(r"^(error: |bench: |proof failed: |(python -m export|bench)( [\w-]+)?: )")
VERDICTS: dict[int, str] = {OK: "ok", WORSE: "worse", REFUSED: "refused"}


@dataclass(frozen=True)
class Ending:
    """How a command ended. `code`: its exit code, None if it raised; `raised`: what it raised.

    `outside`: what it wrote where it should not. `peak_bytes`: how much its memory grew.
    """

    code: int | None
    raised: str
    shown: str
    outside: tuple[str, ...]
    seconds: float
    peak_bytes: int


def finding(made: Made, ending: Ending, out: Path, limit_s: float = SECONDS) -> str:
    """What is wrong with how the command ended, in a few words; "" if nothing is."""
    return (
        ending.raised
        or _said(made, ending)
        or ", ".join(ending.outside[:3])
        or _left(ending, out)
        or _limits(ending, limit_s)
    )


def _said(made: Made, ending: Ending) -> str:
    shown = ending.shown
    if trace := next((trace for trace in TRACES if trace in shown), ""):
        return f"{trace}: {shown.rstrip().splitlines()[-1][:200]}"
    if warned := WARNING.search(shown):
        return f"a warning: {shown[warned.start() :].splitlines()[0][-200:]}"
    if ending.code not in made.codes:
        return f"exit code {ending.code}"
    return _refusal(made, shown.rstrip("\n").split("\n")) if ending.code == REFUSED else ""


def _refusal(made: Made, lines: list[str]) -> str:
    """What is wrong with how a command says that it refuses an input."""
    last, prefixed = lines[-1], [line for line in lines if PREFIX.match(line)]
    if prefixed != [last]:
        return f"exit code 2 without one line at the end: {last[:200]!r}"
    if made.words[0] == "export" and len(lines) > 1:
        return f"{len(lines)} lines before exit code 2"
    if len(last) > LONGEST or not last.isprintable():
        return f"a line of {len(last)} characters, or one that is not printable"
    return ""


def _left(ending: Ending, out: Path) -> str:
    """Half-written artifacts, or an artifact although the export failed."""
    for path in out.rglob("*"):
        if re.search(r"\.(partial|replaced)-\d+$", path.name):
            return f"{path.name} is left"
    if not (out / "artifact").exists():
        return ""
    if ending.code != OK:
        return f"an artifact in spite of exit code {ending.code}"
    if not (out / "artifact" / MANIFEST).exists():
        return "an artifact without artifact.json"
    try:
        verify_digests(load_artifact(out / "artifact"))
    except UserError as error:
        return f"an artifact that does not load: {error}"
    return ""


def _limits(ending: Ending, limit_s: float) -> str:
    if ending.seconds > limit_s:
        return f"{ending.seconds:.0f} s"
    if ending.peak_bytes > MEMORY_BYTES:
        return f"{ending.peak_bytes / 1e6:.0f} MB of memory"
    return ""
