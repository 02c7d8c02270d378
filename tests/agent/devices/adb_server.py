"""An ADB server's side of the wire, for phones that are :class:`Android` objects. Faults on demand.

Protocol: a request is four hex digits of length and a service name; the answer is ``OKAY``, or ``FAIL`` with a message
of the same framing. After ``host:tport:serial:X`` the connection is the phone's, and one more service runs on it.
Source: Android's ``packages/modules/adb`` (OVERVIEW.TXT, SERVICES.TXT, shell_protocol.h).
"""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tests.agent.devices.android import Android

_PIECE = 1000


class AdbServer(socketserver.ThreadingTCPServer):
    """Serves ``phones``; ``states`` says "device", "offline", "unauthorized" …

    Faults, each for services that start with the key: ``fail`` answers with that message, ``cut`` closes after so many
    bytes of output, ``silent`` takes the request and says nothing, ``trickle`` sends a byte now and then.
    """

    daemon_threads = False
    block_on_close = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.phones: dict[str, Android] = {}
        self.states: dict[str, str] = {}
        self.version = 41
        self.fail: dict[str, str] = {}
        self.cut: dict[str, int] = {}
        self.silent: set[str] = set()
        self.trickle: set[str] = set()
        self.services: list[str] = []
        self.stopping = threading.Event()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def add(self, serial: str, state: str = "device", **fields: Any) -> Android:
        self.states[serial] = state
        self.phones[serial] = Android(**fields)
        return self.phones[serial]


class _Handler(socketserver.BaseRequestHandler):
    server: AdbServer
    request: socket.socket

    def handle(self) -> None:
        with suppress(ConnectionError):
            serial: str | None = None
            while (service := self._read_service()) is not None:
                self.server.services.append(service)
                if self._fault(service):
                    return
                if service.startswith(("host:tport:serial:", "host:transport:")):
                    serial = service.removeprefix("host:tport:serial:").removeprefix("host:transport:")
                    if not self._attached(serial):
                        return
                    self.request.sendall(b"OKAY" + (struct.pack("<Q", 7) if ":tport:" in service else b""))
                    continue
                if serial is None:
                    self._host(service)
                else:
                    self._phone(self.server.phones[serial], service)
                return

    def _read_service(self) -> str | None:
        head = self._exactly(4)
        return self._exactly(int(head, 16)).decode() if len(head) == 4 else None

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (part := self.request.recv(count - len(data))):
            data += part
        return data

    def _fault(self, service: str) -> bool:
        for start, message in self.server.fail.items():
            if service.startswith(start):
                self._fail(message)
                return True
        if any(service.startswith(start) for start in self.server.silent):
            self.server.stopping.wait(30)
            return True
        return False

    def _fail(self, message: str) -> None:
        data = message.encode()
        self.request.sendall(b"FAIL" + f"{len(data):04x}".encode() + data)

    def _block(self, text: str) -> None:
        data = text.encode()
        self.request.sendall(b"OKAY" + f"{len(data):04x}".encode() + data)

    def _attached(self, serial: str) -> bool:
        state = self.server.states.get(serial)
        if state == "device":
            return True
        if state is None:
            self._fail(f"device '{serial}' not found")
        else:
            self._fail(f"device {state}." + (" Please check the dialog" if state == "unauthorized" else ""))
        return False

    def _host(self, service: str) -> None:
        if service == "host:version":
            self._block(f"{self.server.version:04x}")
        elif service == "host:devices":
            self._block("".join(f"{serial}\t{state}\n" for serial, state in self.server.states.items()))
        elif service.startswith("host-serial:") and service.endswith(":features"):
            serial = service.removeprefix("host-serial:").removesuffix(":features")
            if self._attached(serial):
                self._block(self.server.phones[serial].features)
        else:
            self._fail("unknown host service")

    def _phone(self, phone: Android, service: str) -> None:
        kind, _, line = service.partition(":")
        if kind == "shell,v2":
            status, out, err = phone.run(line)
            packets = [*_packets(1, out), *_packets(2, err), struct.pack("<BIB", 3, 1, status)]
            self._output(service, b"".join(packets))
        elif kind == "exec":
            _, out, err = phone.run(line)
            self._output(service, err + out)
        elif kind == "shell":
            # Plain shell: both streams in one, no status but what the line itself asks for.
            line, _, echo = line.partition("; echo ")
            status, out, err = phone.run(line)
            self._output(service, out + err + echo.replace("$?", str(status)).encode() + b"\n")
        else:
            self._fail("closed")

    def _output(self, service: str, data: bytes) -> None:
        for start, count in self.server.cut.items():
            if service.startswith(start):
                data = data[:count]
        self.request.sendall(b"OKAY")
        if any(service.startswith(start) for start in self.server.trickle):
            for byte in data:
                self.request.sendall(bytes([byte]))
                if self.server.stopping.wait(0.02):
                    return
        self.request.sendall(data)


def _packets(stream: int, data: bytes) -> list[bytes]:
    parts = [data[at : at + _PIECE] for at in range(0, len(data), _PIECE)]
    return [struct.pack("<BI", stream, len(part)) + part for part in parts]


@contextmanager
def adb_server() -> Iterator[AdbServer]:
    """Running on a free loopback port; every connection is over at the end."""
    with AdbServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.stopping.set()
            server.shutdown()
            thread.join(30)
            assert not thread.is_alive()
