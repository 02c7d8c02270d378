"""The page and its files: read once, sent with a policy that lets nothing else in."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

from autoglm.errors import NotFoundError

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
# Only files of this server, pictures made by the page itself, and no inline script or style: text of a model that
# should slip into the document could not do anything there.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class Pages:
    """The files in ``static/``, by name."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, str, str]] = {}
        for file in files(__package__).joinpath("static").iterdir():
            kind = _TYPES.get(file.name.rpartition(".")[2])
            if kind is not None:
                body = file.read_bytes()
                self._files[file.name] = (body, kind, f'"{hashlib.sha256(body).hexdigest()[:32]}"')

    def reply(self, name: str, request: Request) -> Response:
        """A file, or 304. Raises :class:`NotFoundError`."""
        if name not in self._files:
            raise NotFoundError(f"the console has no file {name[:80]!r}", field="name", value=name[:80])
        body, kind, etag = self._files[name]
        headers = HEADERS | {"ETag": etag}
        if matches(request, etag):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=kind, headers=headers)


def matches(request: Request, etag: str) -> bool:
    """The client has this picture or file already (RFC 9110, ``If-None-Match``)."""
    tags = request.headers.get("if-none-match", "").split(",")
    return any(tag.strip().removeprefix("W/") == etag for tag in tags)
