"""Blocks of a document (headings, text, tables, …), which markdown.py and html.py write.

Text may contain `code` and **bold**, and no other markup.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    level: int
    text: str


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Bullets:
    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """The first `left` columns are aligned left, the rest right; empty titles omit the header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1


@dataclass(frozen=True)
class Code:
    text: str
    language: str = "sh"


@dataclass(frozen=True)
class Picture:
    """`file` is the SVG's name, next to a markdown report; a page embeds the SVG of that name."""

    file: str
    caption: str


Block = Heading | Text | Bullets | Table | Code | Picture


def section(title: str, blocks: Sequence[Block], level: int = 3) -> list[Block]:
    """The blocks under a heading; [] if there are none."""
    return [Heading(level, title), *blocks] if blocks else []
