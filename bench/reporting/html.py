"""Writes a document as one HTML page with embedded styles and pictures, without scripts.

Light and dark follow the reader's system; on a phone each row of a wide table becomes a card.
"""

import re
from collections.abc import Mapping, Sequence
from functools import singledispatch
from html import escape
from importlib import resources

from bench.reporting import charts
from bench.reporting.document import Block, Bullets, Code, Heading, Picture, Table, Text

# colour in a figure -> CSS variable, which has a value for light and for dark
COLOURS: Mapping[str, str] = {
    charts.INK: "currentColor",
    charts.LIGHT: "var(--line)",
    charts.GRAY: "var(--gray)",
    charts.BLUE: "var(--blue)",
    charts.ORANGE: "var(--orange)",
    charts.GREEN: "var(--green)",
    charts.PURPLE: "var(--purple)",
    charts.RED: "var(--red)",
}


def page(blocks: Sequence[Block], drawings: Mapping[str, str]) -> str:
    """Writes the whole HTML page. `drawings` maps the `file` of a Picture to the SVG to embed."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "Report")
    style = resources.files("bench.reporting").joinpath("page.css").read_text(encoding="utf-8")
    parts = [_group(group, drawings) for group in _groups(blocks)]
    body = "\n".join([*_contents(blocks), *parts])
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def drawing(svg: str, name: str) -> str:
    """Returns a matplotlib SVG changed so that it can be embedded in an HTML page.

    Colours become CSS variables. `name` is put before every id: it must be unique in the page.
    """
    start = svg.index("<svg")
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg[start:], flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    for colour, variable in COLOURS.items():
        text = text.replace(colour, variable)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    text = re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" role="img">', text)
    return re.sub(r"\n\s*", "\n", text).strip()


def inline(text: str) -> str:
    """Converts text with `code` and **bold** to HTML; everything else is escaped."""
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", safe)


def _groups(blocks: Sequence[Block]) -> list[list[Block]]:
    """Groups neighbouring pictures; every other block is a group of its own."""
    groups: list[list[Block]] = []
    for block in blocks:
        if groups and isinstance(block, Picture) and isinstance(groups[-1][0], Picture):
            groups[-1].append(block)
        else:
            groups.append([block])
    return groups


def _group(group: Sequence[Block], drawings: Mapping[str, str]) -> str:
    pictures = [block for block in group if isinstance(block, Picture)]
    if not pictures:
        return _block(group[0])
    figures = "\n".join(_figure(picture, drawings) for picture in pictures)
    return f'<div class="figures">\n{figures}\n</div>'


def _figure(picture: Picture, drawings: Mapping[str, str]) -> str:
    name = _anchor(picture.file.removesuffix(".svg"))
    drawn = drawing(drawings[picture.file], name) if picture.file in drawings else ""
    caption = inline(picture.caption)
    label = f'role="img" aria-label="{escape(picture.caption)}"'
    drawn = drawn.replace('role="img"', label, 1)
    return f"<figure>\n{drawn}\n<figcaption>{caption}</figcaption>\n</figure>"


def _contents(blocks: Sequence[Block]) -> list[str]:
    """Returns HTML links to the headings of level 2; [] if there are fewer than two."""
    titles = [block.text for block in blocks if isinstance(block, Heading) and block.level == 2]
    links = " ".join(f'<a href="#{_anchor(title)}">{inline(title)}</a>' for title in titles)
    return [f'<nav aria-label="chapters">{links}</nav>'] if len(titles) > 1 else []


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


@singledispatch
def _block(block: object) -> str:
    raise TypeError(f"not a block: {block!r}")


@_block.register
def _(block: Heading) -> str:
    anchor = f' id="{_anchor(block.text)}"' if block.level == 2 else ""
    return f"<h{block.level}{anchor}>{inline(block.text)}</h{block.level}>"


@_block.register
def _(block: Text) -> str:
    return f"<p>{inline(block.text)}</p>"


@_block.register
def _(block: Bullets) -> str:
    return "<ul>\n" + "\n".join(f"<li>{inline(item)}</li>" for item in block.items) + "\n</ul>"


@_block.register
def _(block: Code) -> str:
    return f"<pre><code>{escape(block.text, quote=False)}</code></pre>"


@_block.register
def _(block: Table) -> str:
    titled = any(block.header)
    head = "".join(
        f"<th{_alignment(n, block)}>{inline(c)}</th>" for n, c in enumerate(block.header)
    )
    lines = [f"<tr>{_cells(row, block)}</tr>" for row in block.rows]
    thead = [f"<thead><tr>{head}</tr></thead>"] if titled else []
    kind = "wide" if titled and len(block.header) > 3 else "narrow"
    table = "\n".join([f'<table class="{kind}">', *thead, "<tbody>", *lines, "</tbody></table>"])
    return f'<div class="scroll">\n{table}\n</div>'


def _cells(row: Sequence[str], table: Table) -> str:
    first = f'<th scope="row">{inline(row[0])}</th>'
    rest = (
        f'<td{_alignment(n, table)} data-label="{escape(table.header[n])}">{inline(cell)}</td>'
        for n, cell in enumerate(row[1:], start=1)
    )
    return first + "".join(rest)


def _alignment(column: int, table: Table) -> str:
    return "" if column < table.left else ' class="number"'
