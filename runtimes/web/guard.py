"""Guards an ASGI application: who may ask, how much they may send, what a browser may do."""

import asyncio
from collections import deque
from collections.abc import MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtimes.web.ticket import Ticket

COOKIE = "pocketvlm"
BODY_S = 30.0
"""Seconds to wait for the next piece of a body."""
HEADERS = {
    # With these two a page is isolated, and may use threads and measure its memory.
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",  # the address has the token
    "cache-control": "no-cache",  # kept, and asked for again whether it changed
}


@dataclass(frozen=True)
class Seen:
    """A request in the server's log."""

    method: str
    path: str
    status: int


class Guard:
    """An ASGI application around another one.

    It answers 401 to whoever `ticket` does not admit, 409 to a second client with the same token,
    413 to bodies over `body_bytes` and 408 to those that stop coming. It adds the headers of an
    isolated page and `policy`, and appends every request to `log`.
    """

    def __init__(
        self, app: ASGIApp, ticket: Ticket, log: deque[Seen], policy: str, body_bytes: int
    ) -> None:
        self._app, self._ticket, self._log = app, ticket, log
        self._body_bytes, self._bound = body_bytes, f"a body has at most {body_bytes:,} bytes"
        self._headers = [
            (name.encode(), value.encode())
            for name, value in {**HEADERS, "content-security-policy": policy}.items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "the server has neither a lifespan nor web sockets"

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._log.append(Seen(scope["method"], scope["path"], message["status"]))
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        answer = self._refusal(scope)
        if answer is not None:
            await answer(scope, receive, sent)
            return
        await self._app(scope, self._bounded(receive), sent)

    def _refusal(self, scope: Scope) -> Response | None:
        """Returns the answer to a client that has not been admitted; None: it has."""
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        if self._ticket.admits(_cookie(headers.get("cookie", ""))):
            return self._too_long(headers)
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        token = given[0] if given else ""
        secret = self._ticket.redeem(token)
        if secret is not None:
            response = RedirectResponse("/", 303)
            https = scope["scheme"] == "https"
            response.set_cookie(COOKIE, secret, httponly=True, samesite="strict", secure=https)
            return response
        if self._ticket.fits(token):
            words = "this address has been opened by another browser; start again for a new one"
            return PlainTextResponse(words, 409)
        return PlainTextResponse("open the address that was printed, with its token", 401)

    def _too_long(self, headers: MutableMapping[str, str]) -> Response | None:
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) <= self._body_bytes:
            return None
        return PlainTextResponse(self._bound, 413)

    def _bounded(self, receive: Receive) -> Receive:
        """Returns `receive` with limits to the bytes of the body and the wait for each piece."""
        left = self._body_bytes
        whole = False

        async def bounded() -> Message:
            nonlocal left, whole
            if whole:  # the application waits for the client to leave
                return await receive()
            try:
                message: MutableMapping[str, Any] = await asyncio.wait_for(receive(), BODY_S)
            except TimeoutError as error:
                raise HTTPException(408, "the body did not arrive in time") from error
            left -= len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if left < 0:
                raise HTTPException(413, self._bound)
            return message

        return bounded


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value
