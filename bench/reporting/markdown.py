"""Writes a document as markdown that is also readable as plain text."""

from collections.abc import Sequence
from functools import singledispatch
from urllib.parse import quote

from bench.reporting import fmt
from bench.reporting.document import Block, Bullets, Code, Heading, Picture, Table, Text


def markdown(blocks: Sequence[Block]) -> str:
    """Writes all blocks as one markdown text, separated by blank lines."""
    return "\n\n".join(_block(block) for block in blocks) + "\n"


@singledispatch
def _block(block: object) -> str:
    raise TypeError(f"not a block: {block!r}")


@_block.register
def _(block: Heading) -> str:
    return f"{'#' * block.level} {block.text}"


@_block.register
def _(block: Text) -> str:
    return block.text


@_block.register
def _(block: Bullets) -> str:
    return "\n".join(f"- {item}" for item in block.items)


@_block.register
def _(block: Table) -> str:
    return fmt.table(block.header, block.rows, block.left)


@_block.register
def _(block: Code) -> str:
    return f"```{block.language}\n{block.text}\n```"


@_block.register
def _(block: Picture) -> str:
    return f"![{block.caption}]({quote(block.file)})"
