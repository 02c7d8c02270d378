"""Where image bytes come from: data URLs always; http(s) and file URLs only where the operator allows them."""

from __future__ import annotations

import asyncio
import base64
import binascii
from pathlib import Path
from urllib.parse import unquote, urlsplit

import anyio
import httpx

from autoglm.errors import ImageError
from autoglm.server.config import ServerConfig

_SHOWN = 60


class ImageSource:
    """Turns an image URL into encoded bytes. Decoding is not done here."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config

    async def read(self, url: str, field: str) -> bytes:
        """Raises :class:`ImageError` naming ``field``."""
        scheme = url.partition(":")[0].lower()
        if scheme == "data":
            return _data_url(url, field)
        if scheme in ("http", "https"):
            return await self._fetch(url, field)
        if scheme == "file":
            return await self._file(url, field)
        raise ImageError(f"{field}: image URLs start with data:, not {url[:_SHOWN]!r}", field=field, value=url[:_SHOWN])

    async def _fetch(self, url: str, field: str) -> bytes:
        try:
            host = (urlsplit(url).hostname or "").lower()
        except ValueError as error:
            raise ImageError(f"{field}: {url[:_SHOWN]!r} is not a URL", field=field, value=url[:_SHOWN]) from error
        if host not in self._config.image_hosts:
            raise ImageError(
                f"{field}: images from host {host[:_SHOWN]!r} are not allowed; send a data: URL",
                field=field,
                value=host[:_SHOWN],
            )
        limit, data = self._config.max_image_bytes, bytearray()
        try:
            # Redirects are not followed: they could lead to a host that is not allowed.
            async with (
                asyncio.timeout(self._config.image_timeout),  # of the whole; httpx limits each read alone
                httpx.AsyncClient(timeout=self._config.image_timeout, follow_redirects=False) as client,
                client.stream("GET", url) as response,
            ):
                if response.status_code != 200:
                    raise ImageError(
                        f"{field}: {host} answered {response.status_code}", field=field, value=response.status_code
                    )
                async for chunk in response.aiter_bytes():
                    data += chunk
                    if len(data) > limit:
                        raise ImageError(
                            f"{field}: image over {limit} bytes", field=field, limit=limit, value=len(data)
                        )
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise ImageError(f"{field}: fetching from {host} failed: {type(error).__name__}", field=field) from error
        return bytes(data)

    async def _file(self, url: str, field: str) -> bytes:
        root = self._config.image_directory
        if root is None:
            raise ImageError(f"{field}: file: URLs are not allowed here; send a data: URL", field=field)
        path = anyio.Path(unquote(urlsplit(url).path))
        try:
            resolved = await path.resolve(strict=True)
            if not Path(resolved).is_relative_to(await anyio.Path(root).resolve()):
                raise ImageError(f"{field}: the file is outside the allowed folder", field=field)
            size = (await resolved.stat()).st_size
            if size > self._config.max_image_bytes:
                raise ImageError(
                    f"{field}: image over the limit", field=field, limit=self._config.max_image_bytes, value=size
                )
            return await resolved.read_bytes()
        except (OSError, ValueError) as error:
            raise ImageError(f"{field}: the file cannot be read", field=field) from error


def _data_url(url: str, field: str) -> bytes:
    head, comma, payload = url.partition(",")
    parts = head[len("data:") :].lower().split(";")
    if not comma or parts[-1].strip() != "base64":
        raise ImageError(f"{field}: a data: URL must be base64", field=field, value=head[:_SHOWN])
    if parts[0] and not parts[0].startswith("image/") and parts[0] != "application/octet-stream":
        raise ImageError(f"{field}: {parts[0][:_SHOWN]!r} is not an image type", field=field, value=parts[0][:_SHOWN])
    try:
        data = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"{field}: invalid base64: {error}", field=field) from error
    if not data:
        raise ImageError(f"{field}: the image is empty", field=field, limit=1, value=0)
    return data
