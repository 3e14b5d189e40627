"""The project's pages of documentation, and what is in them: links, code blocks, command lines."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
GUIDES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "results" / "README.md",
]
"""Pages whose commands a reader types."""
PAGES = [
    *GUIDES,
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "results").glob("*/**/*.md")),
    *sorted((ROOT / "models").glob("*/README.md")),
]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    """The fenced code blocks of a language."""
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [code for tag, code in found if tag == language]


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command line of the console blocks; what follows `#` is left out."""
    for block in blocks(page, "console"):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                yield shlex.split(line[2:], comments=True)


def links(page: Path) -> list[str]:
    """Targets of all links outside code blocks."""
    return LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", heading).lower()).replace(" ", "-")
        for heading in headings
    }
