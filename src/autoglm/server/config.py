"""Server options."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from autoglm.errors import InvalidInputError
from autoglm.server.caching.config import CachingConfig
from autoglm.server.console.config import ConsoleConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Limits and switches of the HTTP server.

    Attributes:
        port: 0 takes a free one.
        allowed_hosts: names that clients may call this server by, besides those of loopback. On a loopback address any
            other name is refused; elsewhere names are checked only if some are given here.
        api_keys: accepted bearer tokens; empty: everybody is let in (keep to loopback then).
        max_body_bytes, body_timeout: size of a request body, and seconds until all of it must be there.
        request_timeout: seconds from submission to the last token.
        write_timeout: seconds a client may leave a chunk unread before it is cut off.
        max_in_flight: requests being served; one more gets 429.
        grace: seconds that running requests get on shutdown.
        image_hosts: hosts that http(s) image URLs may name; empty: none.
        image_directory: folder that file:// image URLs may point into; ``None``: none.
        max_image_bytes, image_timeout: for fetched images.
        console: limits of the console; ``None``: no console.
        caching: what is remembered between requests.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    served_names: tuple[str, ...] = ("autoglm-phone-9b",)
    allowed_hosts: tuple[str, ...] = ()
    api_keys: tuple[str, ...] = ()
    max_body_bytes: int = 64 * 2**20
    body_timeout: float = 30.0
    request_timeout: float = 600.0
    write_timeout: float = 30.0
    max_in_flight: int = 256
    grace: float = 10.0
    image_hosts: tuple[str, ...] = ()
    image_directory: Path | None = None
    max_image_bytes: int = 32 * 2**20
    image_timeout: float = 10.0
    console: ConsoleConfig | None = field(default_factory=ConsoleConfig)
    caching: CachingConfig = field(default_factory=CachingConfig)

    def __post_init__(self) -> None:
        if not self.served_names:
            raise InvalidInputError("served_names needs at least one name", field="served_names", limit=1, value=0)
        if not all(key.strip() for key in self.api_keys):
            raise InvalidInputError("api_keys must not hold an empty key", field="api_keys")
        if not all(name.strip() for name in self.allowed_hosts):
            raise InvalidInputError("allowed_hosts must not hold an empty name", field="allowed_hosts")
        for name in ("max_body_bytes", "max_in_flight", "max_image_bytes"):
            self._positive(name, getattr(self, name))
        for name in ("body_timeout", "request_timeout", "write_timeout", "image_timeout"):
            self._positive(name, getattr(self, name))

    @staticmethod
    def _positive(name: str, value: float) -> None:
        if not value > 0:
            raise InvalidInputError(f"{name} must be positive, got {value}", field=name, limit=0, value=value)
