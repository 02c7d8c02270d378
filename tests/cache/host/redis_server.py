"""A real Redis on a free loopback port, without files, ended with the test."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class RedisServer:
    """``url`` stays the same over :meth:`kill` and :meth:`start`."""

    def __init__(self, log: Path, *options: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._log = log
        self._options = options
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as sink:
            self.process = subprocess.Popen(
                ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *self._options],
                stdout=sink,
                stderr=sink,
            )
        end = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise
                time.sleep(0.02)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def redis_server(log: Path, *options: str) -> Iterator[RedisServer]:
    server = RedisServer(log, *options)
    try:
        yield server
    finally:
        server.kill()
