"""The blocks of a document: headings, texts, tables and so on.

The functions `markdown` (markdown.py) and `page` (html.py) write a list of them as text.
Texts may contain `code` and **bold**, and no other markup.
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
    """A table of texts, whose `rows` are as long as the `header`.

    The first `left` columns are aligned left, the others right. An HTML page leaves out a header
    whose titles are all empty.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1


@dataclass(frozen=True)
class Code:
    text: str
    language: str = "sh"


@dataclass(frozen=True)
class Picture:
    """An SVG picture, by its file name.

    Markdown refers to the file, which lies in the report's folder; an HTML page embeds its content.
    """

    file: str
    caption: str


Block = Heading | Text | Bullets | Table | Code | Picture


def section(title: str, blocks: Sequence[Block], level: int = 3) -> list[Block]:
    """Puts a heading before the blocks; [] if there are no blocks."""
    return [Heading(level, title), *blocks] if blocks else []
