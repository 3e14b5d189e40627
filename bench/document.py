"""What a report is made of: headings, text, tables, pictures, code. Values, so two writers agree.

Text may hold `code`, **bold** and nothing else. NOT aware of markdown, HTML or records.
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
    """The first `left` columns are names and are aligned so; an empty header has no titles."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1


@dataclass(frozen=True)
class Code:
    text: str
    language: str = "sh"


@dataclass(frozen=True)
class Picture:
    """`file` is an SVG beside the report, or its key where pictures are put into the page."""

    file: str
    caption: str


Block = Heading | Text | Bullets | Table | Code | Picture


def section(title: str, blocks: Sequence[Block], level: int = 3) -> list[Block]:
    """The blocks under a heading; nothing where there are none."""
    return [Heading(level, title), *blocks] if blocks else []
