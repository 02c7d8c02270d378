"""Pure ASGI middleware: who may come in, and how large and how slow a body may be."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from autoglm.errors import AuthenticationError
from autoglm.server.problems import BodyTimeoutError, BodyTooLargeError, ForbiddenError, response_of

OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/console", "/console/"})
OPEN_FOLDERS = ("/console/static/",)


class HostGuard:
    """Refuses a request for a name that is not this server's: what a page sends whose own name was made to point here.

    The browser that such a page runs in takes this server for the page's own site, so it reads the answers; but it
    names that site in ``Host`` (DNS rebinding).

    Args:
        bound: the address the server listens on. Unless that is loopback, only ``allowed`` makes names be checked.
        allowed: names besides those of loopback, which always are.
    """

    def __init__(self, app: ASGIApp, bound: str, allowed: Sequence[str]) -> None:
        self._app = app
        self._allowed = {host_of(name) for name in allowed}
        self._checks = bool(self._allowed) or is_loopback(host_of(bound))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wrong = self._wrong(scope) if scope["type"] == "http" and self._checks else None
        if wrong is None:
            await self._app(scope, receive, send)
            return
        error = ForbiddenError(
            "this server does not go by that name; --allowed-hosts adds names",
            field="Host",
            limit=", ".join(["localhost", *sorted(self._allowed)]),
            value=wrong,
        )
        await response_of(error)(scope, receive, send)

    def _wrong(self, scope: Scope) -> str | None:
        """The first name that is not ours; ``""`` if there is none at all."""
        hosts: list[str] = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        for host in hosts or [""]:
            name = host_of(host)
            if not is_loopback(name) and name not in self._allowed:
                return host[:80]
        return None


def host_of(header: str) -> str:
    """The name or address in ``NAME``, ``NAME:PORT``, ``[ADDRESS]:PORT`` or a bare address, in lower case."""
    text = header.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    name, _, port = text.rpartition(":")
    return (name if port.isdigit() and ":" not in name else text).rstrip(".")


def is_loopback(name: str) -> bool:
    """``localhost``, names below it, which no resolver may send elsewhere (RFC 6761), and loopback addresses."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


class KeyGuard:
    """Bearer tokens, compared in constant time by their digests; only digests are kept."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self._app = app
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._digests or _open(scope["path"]) or self._known(scope):
            await self._app(scope, receive, send)
            return
        error = AuthenticationError("missing or wrong API key; send it as 'Authorization: Bearer KEY'")
        await response_of(error)(scope, receive, send)

    def _known(self, scope: Scope) -> bool:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
        digest = hashlib.sha256(key.strip()).digest()
        # No early exit: the time must not tell which key came close.
        found = [hmac.compare_digest(digest, known) for known in self._digests]
        return scheme.lower() == b"bearer" and any(found)


def _open(path: str) -> bool:
    """Whether anybody may read it. Paths are matched as they are: the router knows no ``..``."""
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDERS)


class BodyGuard:
    """Reads the whole body under a size and a time limit, then hands it on in one piece."""

    def __init__(self, app: ASGIApp, max_bytes: int, timeout: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._timeout):
                body = await self._read(scope, receive)
        except TimeoutError:
            late = BodyTimeoutError(
                f"the request body was not complete after {self._timeout:g} s", field="body", limit=self._timeout
            )
            await response_of(late)(scope, receive, send)
            return
        except BodyTooLargeError as error:
            await response_of(error)(scope, receive, send)
            return
        if body is not None:
            await self._app(scope, _replay(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """The body; ``None`` if the client left."""
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit():
            self._check(int(declared))
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            self._check(len(body))
            if not message.get("more_body", False):
                return bytes(body)

    def _check(self, size: int) -> None:
        if size > self._max_bytes:
            raise BodyTooLargeError(
                f"the request body is over the limit of {self._max_bytes} bytes",
                field="body",
                limit=self._max_bytes,
                value=size,
            )


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
