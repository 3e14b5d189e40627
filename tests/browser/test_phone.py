"""`bench phone`: a phone's browser opens the address, measures, and its report becomes a record."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.record import read
from browser.test_server import Client
from export.artifact import Artifact

pytestmark = pytest.mark.browser

FEW = ["--repeats", "1", "--decode-tokens", "3", "--port", "0"]
PHONE = {
    "viewport": {"width": 390, "height": 800},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
WAIT_MS = 240_000
BROWSER = {
    **{"user_agent": "x", "platform": None, "cores": None, "memory_gib": None, "adapter": None},
    **{"secure_context": True, "cross_origin_isolated": True, "device": "wasm", "threads": 1},
}


class Visit:
    """A running `bench phone`."""

    def __init__(self, output: Path, *words_: Path | str) -> None:
        words = [sys.executable, "-m", "bench", "phone", *map(str, words_), *FEW]
        self.output = output
        self.process = subprocess.Popen(
            [*words, "-o", str(output)], stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        found = re.search(r"https?://\S+", self.process.stderr.readline())
        assert found is not None
        self.address = found[0]

    def ended(self) -> int:
        return self.process.wait(timeout=60)


@pytest.fixture
def visit(exported: Callable[[str], Artifact], tmp_path: Path) -> Iterator[Visit]:
    folders = [exported(recipe).path for recipe in ("fp32", "int4")]
    running = Visit(tmp_path / "run.jsonl", *folders)
    yield running
    running.process.kill()
    running.process.communicate()


@pytest.fixture
def phone() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    from runtimes.browser.chromium import program

    with sync_playwright() as playwright:
        words = ["--js-flags=--liftoff-only"]
        browser = playwright.chromium.launch(executable_path=program(), args=words)
        page = browser.new_context(**PHONE, ignore_https_errors=True).new_page()
        page.set_default_timeout(WAIT_MS)
        yield page
        browser.close()


def test_a_phone_measures_through_a_reload_and_a_lost_connection(
    visit: Visit, phone: Any, tmp_path: Path
) -> None:
    throttling = phone.context.new_cdp_session(phone)
    throttling.send("Emulation.setCPUThrottlingRate", {"rate": 2})
    phone.goto(visit.address)
    phone.locator("#start:enabled").tap()
    first, second = phone.locator("section").all()
    first.locator("p.good").wait_for()
    phone.reload()
    # It goes on by itself with what is not measured yet.
    phone.get_by_text("measured before").wait_for()
    second.get_by_text("request 1").wait_for()
    phone.context.set_offline(True)
    phone.get_by_text("The connection is lost").wait_for()
    phone.context.set_offline(False)
    phone.get_by_text("Done.").wait_for()
    wide = phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert wide, "the page is wider than the screen"
    assert visit.ended() == 0
    records, damages = read([visit.output])
    assert damages == []
    assert [record.case.subject.recipe for record in records] == ["fp32", "int4"]
    for record in records:
        (timing,) = record.outcome.timings
        browser = record.outcome.browser
        assert (record.status, len(timing.token_s)) == ("ok", 2)
        assert browser is not None
        assert browser.secure_context
        assert browser.cross_origin_isolated
        assert record.environment.usable_cpus == browser.cores


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"nonsense", "not valid JSON"),
        (b"[1]", "expected an object"),
        (b'{"load_s": 1}', "browser"),
        (b'{"browser": {"user_agent": "x"}}', "browser.platform: missing"),
        (json.dumps({"browser": BROWSER, "load_s": -1}).encode(), "seconds have to be from 0"),
        (json.dumps({"browser": BROWSER, "load_s": 1}).encode(), "it has 0 answers"),
    ],
)
def test_a_phone_that_sends_nonsense_is_refused(visit: Visit, body: bytes, words: str) -> None:
    origin, _, token = visit.address.partition("/?token=")
    client = Client(origin)
    client.ask(f"/?token={token}")
    assert [plan["done"] for plan in json.loads(client.ask("/plan")[1])["artifacts"]] == [False] * 2
    status, said, _ = client.ask("/reports/0", body)
    assert (status, words in said.decode()) == (422, True), said
    assert client.ask("/reports/9", body)[0] == 404
    assert not visit.output.exists()
    assert Client(origin).ask(f"/?token={token}")[0] == 409


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_another_address_is_a_secure_context_only_over_https(
    tls: bool, exported: Callable[[str], Artifact], phone: Any, tmp_path: Path
) -> None:
    words = ["--host", "0.0.0.0", *(["--tls"] if tls else [])]
    visit = Visit(tmp_path / "run.jsonl", exported("fp32").path, *words)
    try:
        assert "://127." not in visit.address
        assert visit.address.startswith("https" if tls else "http:")
        phone.goto(visit.address)
        phone.locator("#start:enabled").tap()
        phone.get_by_text("Done.").wait_for()
        assert visit.ended() == 0
    finally:
        visit.process.kill()
        visit.process.communicate()
    ((record,), _) = read([visit.output])
    browser = record.outcome.browser
    assert browser is not None
    assert (browser.secure_context, browser.cross_origin_isolated) == (tls, tls)
    assert (browser.threads > 1) is tls
