"""The channel between rank 0 and the others: small messages, signs of life both ways, and the news of a loss.

Rank 0 tells the others what to compute; they answer little. Each side sends a sign of life several times within
``timeout`` seconds from a thread of its own, also while it computes; silence, a closed connection or a failure that
the other side reports is a loss. A frame is its length (4 bytes), its kind (1 byte), its bytes.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from enum import IntEnum
from queue import Empty, SimpleQueue

from autoglm.errors import RankLostError

_HEADER = struct.Struct("!IB")
_SIGNS = 8
"""Signs of life sent within one timeout."""


class Kind(IntEnum):
    """Of a frame."""

    ALIVE = 0
    DATA = 1
    FAILURE = 2
    END = 3


class Line:
    """One end of a connection: whole frames out, whole frames in. Any thread may send, one receives."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lock = threading.Lock()

    def send(self, kind: Kind, payload: bytes = b"") -> None:
        """Blocks while the other side does not read."""
        with self._lock:
            self.connection.sendall(_HEADER.pack(len(payload), kind) + payload)

    def receive(self) -> tuple[Kind, bytes] | None:
        """The next frame; ``None``: the other side has closed."""
        header = self._exactly(_HEADER.size)
        if header is None:
            return None
        length, kind = _HEADER.unpack(header)
        payload = self._exactly(length)
        return None if payload is None else (Kind(kind), bytes(payload))

    def _exactly(self, count: int) -> bytearray | None:
        data = bytearray(count)
        view, done = memoryview(data), 0
        while done < count:
            got = self.connection.recv_into(view[done:])
            if not got:
                return None
            done += got
        return data

    def close(self) -> None:
        """Close; a receive under way ends."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()


class Leader:
    """Rank 0's end.

    Args:
        lines: connection of each other rank.
        timeout: seconds of silence that count as a loss.
        on_loss: told once, from a thread of the channel, what was lost.
    """

    def __init__(self, lines: Mapping[int, Line], timeout: float, on_loss: Callable[[str], None]) -> None:
        self._lines = dict(lines)
        for line in lines.values():
            line.connection.settimeout(timeout)
        self._timeout = timeout
        self._on_loss = on_loss
        self._inbox: dict[int, SimpleQueue[bytes | None]] = {rank: SimpleQueue() for rank in lines}
        self._closing = threading.Event()
        self.lost: str | None = None
        self._threads = [
            threading.Thread(target=self._watch, name="rank-watch", daemon=True),
            threading.Thread(target=_signs, args=(self._lines, timeout, self._closing), name="rank-signs", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def broadcast(self, payload: bytes) -> None:
        """The same bytes to every rank. Raises :class:`RankLostError`."""
        for rank in self._lines:
            self.send(rank, payload)

    def send(self, rank: int, payload: bytes) -> None:
        """Bytes to one rank. Raises :class:`RankLostError`."""
        try:
            self._lines[rank].send(Kind.DATA, payload)
        except OSError as error:
            raise RankLostError(self.lost or f"rank {rank} is gone: {error}", field="rank", value=rank) from error

    def receive(self, rank: int, timeout: float | None = None) -> bytes:
        """The next message of a rank. Raises :class:`RankLostError`, also after ``timeout`` seconds."""
        try:
            payload = self._inbox[rank].get(timeout=timeout)
        except Empty:
            raise RankLostError(f"rank {rank} sent nothing in {timeout} s", field="rank", value=rank) from None
        if payload is None:
            raise RankLostError(self.lost or f"rank {rank} is gone", field="rank", value=rank)
        return payload

    def end(self) -> None:
        """Tell every rank that no more comes, so that hanging up is no loss to it."""
        self._closing.set()
        for line in self._lines.values():
            with contextlib.suppress(OSError):
                line.send(Kind.END)

    def close(self) -> None:
        """Stop watching and hang up."""
        self._closing.set()
        for line in self._lines.values():
            line.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(self._timeout)

    def _watch(self) -> None:
        heard = dict.fromkeys(self._lines, time.monotonic())
        with selectors.DefaultSelector() as selector:
            for rank, line in self._lines.items():
                selector.register(line.connection, selectors.EVENT_READ, rank)
            while not self._closing.is_set():
                for key, _ in selector.select(self._timeout / _SIGNS):
                    reason = self._read(key.data)
                    if reason is not None:
                        return self._lose(reason)
                    heard[key.data] = time.monotonic()
                silent = min(heard, key=heard.__getitem__)
                if time.monotonic() - heard[silent] > self._timeout:
                    return self._lose(f"rank {silent} gave no sign of life for {self._timeout:g} s")
        return None

    def _read(self, rank: int) -> str | None:
        """Take one frame of a rank; what was lost, if anything was."""
        try:
            frame = self._lines[rank].receive()
        except (OSError, ValueError) as error:
            return f"the connection to rank {rank} broke: {error}"
        if frame is None:
            return f"rank {rank} has ended"
        kind, payload = frame
        if kind is Kind.FAILURE:
            return f"rank {rank} failed: {payload.decode(errors='replace')}"
        if kind is Kind.DATA:
            self._inbox[rank].put(payload)
        return None

    def _lose(self, reason: str) -> None:
        if self._closing.is_set():
            return
        self.lost = reason
        for inbox in self._inbox.values():
            inbox.put(None)
        self._on_loss(reason)


class Follower:
    """The end of any other rank.

    Args:
        on_loss: told once, from a thread of the channel, if rank 0 falls silent; ``None`` as reason: it hung up.
    """

    def __init__(self, line: Line, timeout: float, on_loss: Callable[[str | None], None]) -> None:
        self._line = line
        self._timeout = timeout
        self._on_loss = on_loss
        self._inbox: SimpleQueue[bytes | None] = SimpleQueue()
        self._closing = threading.Event()
        line.connection.settimeout(timeout)
        threading.Thread(target=self._read, name="rank-steps", daemon=True).start()
        threading.Thread(
            target=_signs, args=({0: line}, timeout, self._closing), name="rank-signs", daemon=True
        ).start()

    def receive(self) -> bytes:
        """The next message of rank 0. Raises :class:`RankLostError` if no more comes."""
        payload = self._inbox.get()
        if payload is None:
            raise RankLostError("rank 0 has ended", field="rank", value=0)
        return payload

    def send(self, payload: bytes) -> None:
        """Bytes to rank 0."""
        self._line.send(Kind.DATA, payload)

    def fail(self, reason: str) -> None:
        """Tell rank 0 why this rank ends."""
        with contextlib.suppress(OSError):
            self._line.send(Kind.FAILURE, reason.encode())

    def close(self) -> None:
        """Hang up."""
        self._closing.set()
        self._line.close()

    def _read(self) -> None:
        reason = None
        try:
            while frame := self._line.receive():
                if frame[0] is Kind.END:
                    self._inbox.put(None)
                    return
                if frame[0] is Kind.DATA:
                    self._inbox.put(frame[1])
        except TimeoutError:
            reason = f"rank 0 gave no sign of life for {self._timeout:g} s"
        except (OSError, ValueError):
            pass  # it hung up in the middle of something
        if not self._closing.is_set():
            self._inbox.put(None)
            self._on_loss(reason)


def _signs(lines: Mapping[int, Line], timeout: float, closing: threading.Event) -> None:
    """Send signs of life until closed. A line that is lost is its reader's to report."""
    while not closing.wait(timeout / _SIGNS):
        for line in lines.values():
            with contextlib.suppress(OSError):
                line.send(Kind.ALIVE)
