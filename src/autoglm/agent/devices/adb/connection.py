"""``adbutils``'s connections with time and size limits, and its errors as ours.

As it comes, the library starts an ADB server of its own when it finds none, waits ten minutes for a phone, and leaves
sockets open on failure.
"""

from __future__ import annotations

import functools
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from adbutils import AdbClient, AdbConnection, AdbError, AdbTimeout
from adbutils.errors import AdbConnectionError

from autoglm.errors import (
    DeviceError,
    DeviceNotFoundError,
    DeviceOfflineError,
    DeviceServerError,
    DeviceTimeoutError,
    DeviceUnauthorizedError,
)

MAX_BYTES = 64 * 2**20
_READ = 2**16


class LimitedConnection(AdbConnection):  # type: ignore[misc]  # adbutils carries no types
    """One connection with one deadline for everything that is read from it."""

    def __init__(self, host: str, port: int, seconds: float) -> None:
        self._address = (host, port)
        self._deadline = time.monotonic() + seconds
        self._left = MAX_BYTES
        super().__init__(host, port)

    def _safe_connect(self) -> socket.socket:
        """Only connect: a server is the user's to start."""
        try:
            connection = socket.create_connection(self._address, timeout=self._remaining())
        except TimeoutError as error:
            raise AdbTimeout("connect to adb server timeout") from error
        except OSError as error:
            raise AdbConnectionError(str(error)) from error
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _remaining(self) -> float:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        return remaining

    def _read_fully(self, count: int) -> bytes:
        """Up to ``count`` bytes, fewer at the end of the stream."""
        data = bytearray()
        while len(data) < count:
            self.conn.settimeout(self._remaining())
            part = self.conn.recv(min(count - len(data), _READ))
            if not part:
                break
            data += part
        self._left -= len(data)
        if self._left < 0:
            raise AdbError(f"more than {MAX_BYTES} bytes")
        return bytes(data)

    def read_all(self) -> bytes:
        """Everything up to the end of the stream."""
        data = bytearray()
        while part := self._read_fully(_READ):
            data += part
        return bytes(data)

    def check_okay(self) -> None:
        """The status of the last command; a connection that failed is of no more use."""
        try:
            super().check_okay()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """At once; the library sleeps here."""
        if not self.closed:
            self.conn.close()
            self._AdbConnection__conn = None


class LimitedClient(AdbClient):  # type: ignore[misc]  # adbutils carries no types
    """Makes :class:`LimitedConnection`; every command has ``seconds``, whatever the library asks for."""

    def __init__(self, host: str, port: int, seconds: float) -> None:
        super().__init__(host, port)
        self._seconds = seconds

    def make_connection(self, timeout: float | None = None) -> LimitedConnection:  # noqa: ARG002
        """A new connection; ``timeout`` is the library's idea and not used."""
        return LimitedConnection(self.host, self.port, self._seconds)

    @functools.cached_property
    def _version(self) -> int:
        return int(super().server_version())

    def server_version(self) -> int:
        """Asked once: the library would ask before every command."""
        return self._version


@contextmanager
def our_errors(host: str, port: int, seconds: float) -> Iterator[None]:
    """What ``adbutils`` and sockets raise inside, as a :class:`DeviceError`."""
    try:
        yield
    except (AdbTimeout, TimeoutError) as error:
        raise DeviceTimeoutError(
            f"the phone did not answer in {seconds:g} s", field="timeout", limit=seconds
        ) from error
    except AdbConnectionError as error:
        raise DeviceServerError(
            f"no ADB server answers at {host}:{port}; start it with `adb start-server`", field="port", value=port
        ) from error
    except AdbError as error:
        raise _named(" ".join(map(str, error.args))) from error
    except (OSError, EOFError, ValueError) as error:
        raise DeviceOfflineError("the connection to the phone broke", field="device", value=str(error)[:80]) from error


def _named(text: str) -> DeviceError:
    """The server's own words, under the error they mean."""
    shown = text[:200]
    if "unauthorized" in text:
        return DeviceUnauthorizedError(
            "the phone has not accepted this computer; unlock it and allow debugging", field="device", value=shown
        )
    if "not found" in text or "no devices" in text:
        return DeviceNotFoundError("the phone is not attached", field="device", value=shown)
    if "offline" in text or "closed" in text or "Unknown data: b''" in text or "shell output invalid" in text:
        return DeviceOfflineError("the phone does not answer", field="device", value=shown)
    return DeviceError(f"ADB refused: {shown}", field="device", value=shown)
