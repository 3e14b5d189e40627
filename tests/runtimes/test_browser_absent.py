"""Where Chromium or transformers.js is not installed, the runtime `browser` says what brings it."""

from pathlib import Path

import pytest

from runtimes import RUNTIMES
from runtimes.browser import chromium
from runtimes.web import pages
from runtimes.web.ticket import Ticket


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without programs, in a folder without packages."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "none"))


@pytest.mark.usefixtures("bare")
def test_it_says_what_installs_chromium() -> None:
    problem = chromium.problem()
    assert problem is not None
    assert "apt install chromium" in problem
    assert "playwright install chromium" in problem


def test_it_says_what_installs_transformers_js(tmp_path: Path) -> None:
    problem = pages.problem([tmp_path])
    assert problem is not None
    assert "npm install @huggingface/transformers@" in problem
    (tmp_path / "node_modules/@huggingface/transformers").mkdir(parents=True)
    assert pages.problem([tmp_path]) is None


def test_it_runs_only_the_layout_of_transformers_js() -> None:
    row = RUNTIMES["browser"]
    assert row.runs_layout("transformers.js")
    assert not row.runs_layout("native")
    assert RUNTIMES["onnxruntime"].runs_layout("native")
    assert "it runs layout transformers.js, and this is native" in str(row.unavailable("native"))


def test_a_ticket_admits_the_first_who_shows_its_token() -> None:
    ticket = Ticket()
    assert not ticket.admits("")
    assert ticket.redeem("guess") is None
    secret = ticket.redeem(ticket.token)
    assert secret is not None
    assert ticket.redeem(ticket.token) is None
    assert ticket.admits(secret)
    assert not ticket.admits(ticket.token)
