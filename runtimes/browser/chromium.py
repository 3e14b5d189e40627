"""Finds Chromium on this machine, starts it without a window, and opens a page in it.

Playwright for Python drives it: it is released together with playwright-core of npm, and brings the
Node.js that it needs.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from export.errors import UserError
from export.files import short
from runtimes.web import pages

PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
INSTALL = "apt install chromium, or .venv/bin/playwright install chromium"
STARTING_MS = 60_000.0
# Count a page's memory when it is asked for, not at the next garbage collection.
ALWAYS = ("--enable-blink-features=ForceEagerMeasureMemory",)
# WebGPU on the CPU, where there is no GPU.
SWIFTSHADER = (
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-features=Vulkan",
    "--use-vulkan=swiftshader",
    "--enable-unsafe-swiftshader",
)


def problem() -> str | None:
    """Returns what is missing to run a page in Chromium here, in words; None: nothing."""
    if program() is None and not _downloaded():
        return f"Chromium is not installed ({INSTALL})"
    return pages.problem()


def program() -> str | None:
    """Returns the path of the system's Chromium or Chrome; None if there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


def _downloaded() -> bool:
    """Whether Playwright has downloaded its own Chromium."""
    caches = "Library/Caches" if sys.platform == "darwin" else ".cache"
    default = Path.home() / caches / "ms-playwright"
    folder = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or default)
    return any(folder.glob("chromium-*"))


class Page:
    """A page in a Chromium of its own: evaluates scripts, and knows the processes that compute."""

    def __init__(self, page: Any, browser: Any) -> None:
        self._page, self._browser = page, browser

    def evaluate(self, script: str, argument: object = None) -> Any:
        """Returns what a script returns in the page, or a function that it is, for an argument.

        Waits without a limit. Raises UserError if the script fails or Chromium ends.
        """
        with _in_words("the page in Chromium failed"):
            return self._page.evaluate(script, argument)

    def processes(self, gpu: bool) -> tuple[int, ...]:
        """Returns the ids of the process that runs the page, and with `gpu` of the one for WebGPU.

        Chromium keeps a spare process for the next page: the one that runs ours has worked more.
        """
        with _in_words("Chromium failed"):
            session = self._browser.new_browser_cdp_session()
            found = session.send("SystemInfo.getProcessInfo")["processInfo"]
            session.detach()
        found.sort(key=lambda process: process["cpuTime"])
        renderer = [process["id"] for process in found if process["type"] == "renderer"][-1:]
        return (*renderer, *(p["id"] for p in found if gpu and p["type"] == "GPU"))


@contextmanager
def opened(address: str, ready: str, arguments: Sequence[str] = ()) -> Iterator[Page]:
    """Starts Chromium with an address, and waits until the script `ready` is true in its page.

    Only one at a time in a process. Raises UserError if it does not start, or if the page does not
    become ready.
    """
    from playwright.sync_api import sync_playwright

    with ExitStack() as stack:
        with _in_words("Chromium does not start"):
            playwright = stack.enter_context(sync_playwright())
            browser = playwright.chromium.launch(
                executable_path=program(), args=[*ALWAYS, *arguments], timeout=STARTING_MS
            )
            stack.callback(browser.close)
        with _in_words("Chromium cannot open the page"):
            page = browser.new_page()
            page.goto(address)
            page.wait_for_function(ready, timeout=STARTING_MS)
        yield Page(page, browser)


@contextmanager
def _in_words(what: str) -> Iterator[None]:
    """Turns Playwright's errors into UserErrors of one line that starts with `what`."""
    from playwright.sync_api import Error

    try:
        yield
    except Error as error:
        reason = error.message.strip().partition("\n")[0].partition(": ")
        words = short(reason[2] or reason[0], 200)
        hint = _hint(words)
        raise UserError(f"{what}: {words}{hint and f'; {hint}'}") from error


def _hint(words: str) -> str:
    if "crashed" in words or "has been closed" in words:
        return "its process ended, usually because memory ran out; take a smaller artifact"
    return ""
