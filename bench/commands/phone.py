"""`bench phone`: measures artifacts in a phone's browser, which opens an address and reports."""

import argparse
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from rich.console import Console
from rich.markup import escape

from bench.machine.environment import environment
from bench.options import LatencyOptions, Options, part
from bench.record import append
from bench.reporting.fmt import milliseconds, significant
from bench.serve.phone import planned, read_report, record_of
from bench.tasks.latency import image
from export.artifact import Artifact, load_artifact, verify_digests
from export.console import rich_console
from export.errors import UserError
from runtimes.png import png

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

LAYOUT = "transformers.js"
NEEDED = ("cryptography", "segno", "starlette", "uvicorn")
THREADS = 4
"""Most threads of a phone's WebAssembly: as many as it has fast cores."""


def run(arguments: argparse.Namespace) -> int:
    """Serve until the phone has reported on every artifact; returns 1 if one failed, else 0."""
    _expect(arguments)
    from runtimes.web import pages
    from runtimes.web.certificate import own_certificate
    from runtimes.web.server import Site, reached, serving

    visit = Visit([_artifact(folder) for folder in arguments.artifacts], arguments)
    files = {**pages.page("phone.html", "phone.mjs", "phone.css"), "/picture.png": visit.picture}
    for number, artifact in enumerate(visit.artifacts):
        base = f"/artifacts/{number}"
        files |= {f"{base}/{name}": artifact.path / name for name in artifact.manifest.files}
    site = Site(files, visit.routes(), pages.POLICY)
    with ExitStack() as stack:
        host = arguments.host
        tls = stack.enter_context(own_certificate(reached(host))) if arguments.tls else None
        server = stack.enter_context(serving(site, host=host, port=arguments.port, tls=tls))
        visit.say(f"open this address in the phone's browser: {server.address}")
        visit.show(server.address)
        if tls is not None:
            visit.say(f"its certificate has the SHA-256 fingerprint {tls.fingerprint}")
        visit.done.wait()
    visit.say(f"records are in {arguments.output}")
    return int(visit.failed > 0)


class Visit:
    """One phone's visit: hands out the plan, and makes a record of each report."""

    def __init__(self, artifacts: list[Artifact], arguments: argparse.Namespace) -> None:
        self.artifacts, self.output = artifacts, Path(arguments.output)
        self.options = Options(repeats=arguments.repeats, decode_tokens=arguments.decode_tokens)
        self.done, self.failed = threading.Event(), 0
        self.picture = png(image())
        self._console: Console = rich_console(stderr=True)
        self._here = environment(())
        self._started = datetime.now(UTC)
        self._reported: set[int] = set()

    def say(self, text: str) -> None:
        """Prints a line for whoever holds the phone."""
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def show(self, address: str) -> None:
        """Draws an address as a QR code, where a person looks."""
        if self._console.is_terminal:
            import segno

            segno.make(address).terminal(cast(TextIO, self._console.file), compact=True)

    def routes(self) -> "list[BaseRoute]":
        """Returns the addresses /plan and /reports/<number>."""
        from starlette.requests import Request
        from starlette.responses import JSONResponse, PlainTextResponse, Response
        from starlette.routing import Route

        from runtimes.web.pages import versions

        async def plan(request: Request) -> Response:
            options, packages = part(LatencyOptions, self.options), dict(versions())
            each = enumerate(self.artifacts)
            plans = [planned(n, artifact, options, n in self._reported) for n, artifact in each]
            return JSONResponse({"artifacts": plans, "threads": THREADS, "packages": packages})

        async def report(request: Request) -> Response:
            number = request.path_params["number"]
            if number >= len(self.artifacts):
                return PlainTextResponse("there is no such artifact", 404)
            try:
                self._add(number, await request.body())
            except (ValueError, UserError) as error:
                return PlainTextResponse(str(error), 422)
            return Response(status_code=204)

        return [Route("/plan", plan), Route("/reports/{number:int}", report, methods=["POST"])]

    def _add(self, number: int, body: bytes) -> None:
        """Appends the record of a report; one that was sent before changes nothing."""
        report = read_report(body, part(LatencyOptions, self.options))
        if number in self._reported:
            return
        artifact = self.artifacts[number]
        record = record_of(artifact, report, self.options, self._started, self._here)
        append(self.output, record)
        self._reported.add(number)
        self._started = datetime.now(UTC)
        self.failed += record.status == "failed"
        name = f"{artifact.manifest.model} {artifact.manifest.recipe}"
        if record.status == "failed":
            self.say(f"{name}: failed: {record.reason}")
        else:
            timing = record.outcome.timings[-1]
            rate = significant(timing.decode_tokens_per_s)
            first = milliseconds(timing.first_token_s)
            self.say(f"{name}: first token {first}, decode {rate} tokens/s")
        if len(self._reported) == len(self.artifacts):
            self.done.set()


def _expect(arguments: argparse.Namespace) -> None:
    absent = [name for name in NEEDED if find_spec(name) is None]
    if absent:
        names = ", ".join(absent)
        raise UserError(f"{names} is not installed (pip install 'pocket-vlm[browser]')")
    output = Path(arguments.output)
    if output.is_dir() or not output.parent.is_dir():
        raise UserError(f"{output}: not a file in a folder that exists; choose another with -o")


def _artifact(folder: str) -> Artifact:
    artifact = load_artifact(Path(folder))
    if artifact.manifest.layout != LAYOUT:
        raise UserError(
            f"{folder}: has layout {artifact.manifest.layout}, and a browser opens {LAYOUT}; "
            f"export it with --layout {LAYOUT}"
        )
    verify_digests(artifact)
    return artifact
