"""Processes of the other ranks on this host, and the addresses at which ranks meet."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from torch._C._distributed_c10d import FileStore, Store, TCPStore

from autoglm.errors import InvalidInputError, RankLostError

_PR_SET_PDEATHSIG = 1
_RETRY_SECONDS = 0.2


def die_with_parent() -> None:
    """Have the kernel end this process when its parent ends, however that happens (Linux; elsewhere nothing)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def listen(address: str) -> socket.socket:
    """A listening socket at ``unix:PATH`` or ``tcp:HOST:PORT`` (port 0: a free one)."""
    kind, rest = _split(address)
    if kind == "unix":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(rest)
        listener.listen()
        return listener
    host, _, port = rest.rpartition(":")
    return socket.create_server((host, int(port)))


def connect(find: Callable[[], str], timeout: float) -> socket.socket:
    """Connect to what :func:`listen` made, trying again until it is there.

    Args:
        find: where it is, as far as is known now.

    Raises:
        RankLostError: not within ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        address = "an address nobody knows"
        try:
            address = find()
            return _connect(address, timeout)
        except (OSError, RuntimeError) as error:  # the store's own errors are runtime errors
            if time.monotonic() > deadline:
                raise RankLostError(f"rank 0 does not answer at {address}: {error}", field="rank", value=0) from error
        time.sleep(_RETRY_SECONDS)


def _connect(address: str, timeout: float) -> socket.socket:
    kind, rest = _split(address)
    if kind == "tcp":
        host, _, port = rest.rpartition(":")
        return socket.create_connection((host, int(port)), timeout)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout)
        connection.connect(rest)
    except OSError:
        connection.close()
        raise
    return connection


def open_store(address: str, world_size: int, timeout: float) -> Store:
    """The store at ``file:PATH`` (ranks of one host) or ``tcp:HOST:PORT`` (some rank has it, see :func:`own_store`)."""
    kind, rest = _split(address)
    if kind == "file":
        return FileStore(rest, world_size)
    host, _, port = rest.rpartition(":")
    return TCPStore(host, int(port), world_size, is_master=False, timeout=timedelta(seconds=timeout))


def own_store(host: str, world_size: int, timeout: float) -> tuple[TCPStore, str]:
    """A store in this process, on a free port, and its address."""
    limit = timedelta(seconds=timeout)
    store = TCPStore(host, 0, world_size, is_master=True, timeout=limit, wait_for_workers=False)
    return store, f"tcp:{host}:{store.port}"


def _split(address: str) -> tuple[str, str]:
    kind, _, rest = address.partition(":")
    if kind not in {"unix", "tcp", "file"} or not rest:
        raise InvalidInputError(
            f"{address} is no address of a rank; it is unix:PATH, file:PATH or tcp:HOST:PORT", field="address"
        )
    return kind, rest


class Children:
    """Rank processes of this host. They end with their parent."""

    def __init__(self) -> None:
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, rank: int, command: Sequence[str], variables: Mapping[str, str]) -> None:
        """Start the process of a rank."""
        self.processes[rank] = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, env={**os.environ, **variables}
        )

    def check(self) -> None:
        """Raises :class:`RankLostError` if one has ended."""
        for rank, process in self.processes.items():
            if process.poll() is not None:
                raise RankLostError(
                    f"rank {rank} ended at its start with status {process.returncode}", field="rank", value=rank
                )

    def kill(self) -> None:
        """End all at once; also one that is stopped."""
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    def wait(self, timeout: float) -> None:
        """Give them ``timeout`` seconds each to end by themselves, then kill; leaves no process behind."""
        for process in self.processes.values():
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def cores() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0))


def loopback_only() -> dict[str, str]:
    """Environment that keeps gloo's own sockets on the loopback interface, unless the user has chosen one."""
    known = {"GLOO_SOCKET_IFNAME": "lo"} if Path("/sys/class/net/lo").exists() else {}
    return {name: os.environ.get(name, value) for name, value in known.items()}
