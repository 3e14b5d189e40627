"""The page: complete in itself, the same from the same records, in light and dark."""

import os
import re
from html.parser import HTMLParser
from pathlib import Path

from bench.analysis.rows import rows
from bench.record import Record
from bench.reporting.document import Bullets, Code, Heading, Picture, Table, Text
from bench.reporting.html import drawing, inline, page
from bench.reporting.plots import inline as draw
from bench.reporting.report import document

GOLDEN = Path(__file__).parent / "golden" / "report.html"
VOID = {"meta", "br", "path", "use", "rect", "circle"}


class Balance(HTMLParser):
    """Tags in the order they open and close; raises where they cross."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [value for key in ("id",) if (value := found.get(key))]
        self.links += [v for k in ("src", "href", "xlink:href") if (v := found.get(k))]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def _page(records: list[Record], with_figures: bool = True) -> str:
    figures, drawn = draw(rows(records), "report") if with_figures else ((), {})
    return page(document(records, figures), drawn)


def test_the_page_without_figures_is_the_golden_file(records: list[Record]) -> None:
    found = _page(records, with_figures=False)
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(found, encoding="utf-8")
    assert found == GOLDEN.read_text(encoding="utf-8"), "UPDATE_GOLDEN=1 writes the new one"


def test_the_page_loads_no_resource_and_runs_no_script(records: list[Record]) -> None:
    found = _page(records)
    balance = Balance()
    balance.feed(found)
    assert balance.open == []
    assert len(balance.ids) == len(set(balance.ids))
    assert all(link.startswith("#") and link[1:] in balance.ids for link in balance.links)
    for outside in ("<script", "<link", "<img", "<iframe", "@import", "javascript:"):
        assert outside not in found
    assert set(re.findall(r"url\(([^)]{0,1})", found)) <= {"#"}


def test_the_page_has_every_table_and_figure(records: list[Record]) -> None:
    figures, drawn = draw(rows(records), "report")
    blocks = document(records, figures)
    found = page(blocks, drawn)
    assert found.count("<svg") == len(figures)
    assert found.count("<table") == sum(isinstance(block, Table) for block in blocks)
    assert "prefers-color-scheme: dark" in found
    assert "width=device-width" in found


def test_pictures_take_the_readers_colours(records: list[Record]) -> None:
    _, drawn = draw(rows(records), "report")
    for name, svg in drawn.items():
        found = drawing(svg, name)
        assert "var(--" in found
        assert "currentColor" in found
        left = set(re.findall(r"#[0-9a-f]{6}", found)) - {"#ffffff"}
        assert left == set(), name
        assert "<?xml" not in found


def test_records_cannot_put_markup_into_the_page() -> None:
    bad = '<script>alert(1)</script> & "x"'
    blocks = [
        Heading(2, bad),
        Text(bad),
        Bullets([bad]),
        Code(bad),
        Table([bad, "a", "b", "c"], [[bad] * 4]),
        Picture("none.svg", bad),
    ]
    found = page(blocks, {})
    assert "<script" not in found
    assert 'data-label="a"' in found


def test_text_may_have_code_and_bold_only() -> None:
    assert inline("`a<b` **c** [d](e)") == "<code>a&lt;b</code> <strong>c</strong> [d](e)"
