"""A small HTTP server for pages that compute on this machine's files: bounded, and for one client.

It listens to this machine alone unless told otherwise, answers only who has been admitted, serves
only the files it was given by their addresses, and keeps a log of all requests.
"""

import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from export.errors import UserError
from runtimes.web.certificate import Certificate
from runtimes.web.guard import Guard, Seen
from runtimes.web.ticket import Ticket

LOOPBACK, EVERY = "127.0.0.1", "0.0.0.0"
BODY_BYTES = 1 << 20
CHUNK_BYTES = 1 << 20
"""Of a file that is sent; artifacts have hundreds of megabytes."""
CONNECTIONS = 64
LOG_LINES = 10_000
STARTING_S = 10.0
TYPES = {
    ".css": "text/css",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".json": "application/json",
    ".mjs": "text/javascript",
    ".png": "image/png",
    ".wasm": "application/wasm",
}
"""By the end of a file's name; not from the system, whose table may lack some."""
OTHER = "application/octet-stream"


@dataclass(frozen=True)
class Site:
    """What a server offers: `files` by their addresses, and `routes` that compute their answers.

    `policy` is the Content-Security-Policy of every response, `body_bytes` the most bytes of a
    request's body.
    """

    files: Mapping[str, Path | bytes]
    routes: Sequence[BaseRoute] = ()
    policy: str = "default-src 'none'"
    body_bytes: int = BODY_BYTES


@dataclass(frozen=True)
class Serving:
    """A running server: where it is, whom it admits, and what it was asked for."""

    origin: str
    """For example http://127.0.0.1:45678."""
    ticket: Ticket
    log: deque[Seen] = field(default_factory=lambda: deque(maxlen=LOG_LINES))

    @property
    def address(self) -> str:
        """The address to open in a browser; it contains the token, which is good for one client."""
        return f"{self.origin}/?token={self.ticket.token}"


@contextmanager
def serving(
    site: Site, *, host: str = LOOPBACK, port: int = 0, tls: Certificate | None = None
) -> Iterator[Serving]:
    """Serves `site` in a thread until the context ends; `port` 0 takes a free one.

    Raises UserError if the address cannot be used.
    """
    listening = _listening(host, port)
    number = listening.getsockname()[1]
    shown = f"[{reached(host)}]" if ":" in host else reached(host)
    running = Serving(f"{'http' if tls is None else 'https'}://{shown}:{number}", Ticket())
    app = Guard(_app(site), running.ticket, running.log, site.policy, site.body_bytes)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=1,
        ssl_certfile=None if tls is None else str(tls.file),
        ssl_keyfile=None if tls is None else str(tls.key),
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        _await_start(server, thread)
        yield running
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def reached(host: str) -> str:
    """Returns the address by which others reach a server that listens at `host`.

    That is `host`, or for 0.0.0.0, which means all addresses, the one that this machine uses.
    """
    if host != EVERY:
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probing:
        try:
            probing.connect(("192.0.2.1", 9))  # chooses an address and sends nothing
        except OSError as error:
            raise UserError("this machine has no network address; name one with --host") from error
        return str(probing.getsockname()[0])


def _app(site: Site) -> Starlette:
    async def file(request: Request) -> Response:
        # Only addresses that are in the table are files: no path of a request reaches the disk.
        found = site.files.get(request.url.path)
        name = "index.html" if request.url.path == "/" else request.url.path
        kind = TYPES.get(Path(name).suffix, OTHER)
        match found:
            case None:
                return PlainTextResponse("there is nothing at this address", 404)
            case bytes():
                return Response(found, media_type=kind)
            case _:
                response = FileResponse(found, media_type=kind)
                response.chunk_size = CHUNK_BYTES
                return response

    return Starlette(routes=[*site.routes, Route("/{path:path}", file, methods=["GET"])])


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot listen at {host}, port {port} ({reason}); choose others with --host and --port"
        ) from error
    return listening


def _await_start(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + STARTING_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise UserError("the web server did not start; try again, or another --port")
        time.sleep(0.01)
