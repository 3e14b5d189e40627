"""The server for pages answers one client, within bounds, with the headers of an isolated page."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest

from export.errors import UserError

pytestmark = pytest.mark.browser

POLICY = "default-src 'none'; img-src 'self'"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Any]:
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    from runtimes.web.server import Site, serving

    async def size(request: Request) -> JSONResponse:
        return JSONResponse({"bytes": len(await request.body())})

    (tmp_path / "graph.onnx").write_bytes(b"weights")
    files = {"/": b"<!doctype html>", "/artifacts/0/graph.onnx": tmp_path / "graph.onnx"}
    routes = [Route("/size", size, methods=["POST"])]
    with serving(Site(files, routes, POLICY, body_bytes=1000)) as server:
        yield server


class Client:
    """A client that keeps its cookie and follows no redirect."""

    def __init__(self, origin: str) -> None:
        self.origin, self.cookie = origin, ""

    def ask(self, path: str, data: bytes | None = None) -> tuple[int, bytes, Any]:
        class Stay(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *words: Any) -> None: ...

        headers = {"Cookie": self.cookie} if self.cookie else {}
        request = urllib.request.Request(self.origin + path, data, headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay)
        try:
            with opener.open(request, timeout=10) as answer:
                status, body, found = answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                status, body, found = error.code, error.read(), error.headers
        for name, morsel in SimpleCookie(found.get("Set-Cookie", "")).items():
            self.cookie = f"{name}={morsel.value}"
        return status, body, found


def admitted(running: Any) -> Client:
    client = Client(running.origin)
    status, _, headers = client.ask(f"/?token={running.ticket.token}")
    assert (status, headers["Location"]) == (303, "/")
    return client


def test_it_listens_to_this_machine_alone(running: Any) -> None:
    assert running.origin.startswith("http://127.0.0.1:")


def test_a_client_without_the_token_gets_nothing(running: Any) -> None:
    for path in ("/", "/artifacts/0/graph.onnx", "/?token=", "/?token=guess", "/nothing"):
        assert Client(running.origin).ask(path)[0] == 401
    assert Client(running.origin).ask("/size", b"body")[0] == 401


def test_the_token_admits_one_client(running: Any) -> None:
    client = admitted(running)
    assert client.ask("/")[:2] == (200, b"<!doctype html>")
    assert Client(running.origin).ask(f"/?token={running.ticket.token}")[0] == 409
    # The one that was admitted may open the address again.
    assert client.ask(f"/?token={running.ticket.token}")[0] == 200


def test_only_listed_addresses_are_files(running: Any) -> None:
    client = admitted(running)
    assert client.ask("/artifacts/0/graph.onnx")[:2] == (200, b"weights")
    for path in ("/artifacts/0/", "/artifacts/0/../0/other", "/%2e%2e/etc/passwd", "//etc/passwd"):
        assert client.ask(path)[0] == 404


def test_every_answer_has_the_headers_of_an_isolated_page(running: Any) -> None:
    client = admitted(running)
    for path in ("/", "/nothing"):
        headers = client.ask(path)[2]
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Content-Security-Policy"] == POLICY
        assert headers["Referrer-Policy"] == "no-referrer"


def test_bodies_are_bounded(running: Any) -> None:
    client = admitted(running)
    status, body, _ = client.ask("/size", b"x" * 1000)
    assert (status, json.loads(body)) == (200, {"bytes": 1000})
    assert client.ask("/size", b"x" * 1001)[0] == 413


def test_a_body_that_hides_its_length_is_bounded(running: Any) -> None:
    client = admitted(running)
    host, port = running.origin.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = f"POST /size HTTP/1.1\r\nHost: {host}\r\nCookie: {client.cookie}\r\n"
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        connection.sendall(b"258\r\n" + b"x" * 600 + b"\r\n258\r\n" + b"x" * 600 + b"\r\n0\r\n\r\n")
        assert b" 413 " in connection.recv(4096).partition(b"\r\n")[0]


def test_requests_are_logged_without_the_token(running: Any) -> None:
    client = admitted(running)
    client.ask("/artifacts/0/graph.onnx")
    client.ask("/nothing")
    assert [(seen.method, seen.path, seen.status) for seen in running.log] == [
        ("GET", "/", 303),
        ("GET", "/artifacts/0/graph.onnx", 200),
        ("GET", "/nothing", 404),
    ]


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70000), ("203.0.113.1", 0), ("::1", -1)])
def test_an_address_that_cannot_be_used_is_an_error_of_one_line(host: str, port: int) -> None:
    from runtimes.web.server import Site, serving

    with (
        pytest.raises(UserError, match="choose others with --host and --port"),
        serving(Site({}), host=host, port=port),
    ):
        pass
