"""Two hosts far apart, on one machine: network namespaces behind a link of a given rate and delay.

A TAP device for each, and a small switch in a process of its own that passes frames on when their time has come: a
frame leaves its sender at the link's rate and arrives the delay later. For kernels without netem. Needs root, ``ip``
and ``/dev/net/tun``. Nothing here leaves the machine: the devices lead to the switch and nowhere else.
"""

from __future__ import annotations

import argparse
import fcntl
import heapq
import os
import secrets
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from benchmarks.namespaces import ip, outputs, start_rank

_SUBNET = "10.78.0"
_PORT = 29700
_MTU = 9000
_OVERHEAD = 24
"""Bytes a frame takes on the wire beside its own: preamble, check sum, gap."""
_BACKLOG = 0.1
"""Seconds of traffic that wait for a link at most; what comes then is dropped."""
_TUNSETIFF, _TAP, _NO_INFO = 0x400454CA, 0x2, 0x1000
_FRAME = 70_000


@dataclass(frozen=True, slots=True)
class FarHosts:
    """Two hosts that are up."""

    names: tuple[str, str]

    def run(self, command: Sequence[str], timeout: float) -> str:
        """``command`` on both, as ranks of one world (as ``torchrun`` sets it up); what rank 0 wrote.

        Raises :class:`RuntimeError` with the tail of the errors if one fails.
        """
        running = [
            start_rank(self.names, rank, command, master=f"{_SUBNET}.1", port=_PORT, interface=f"{self.names[rank]}t")
            for rank in range(2)
        ]
        return outputs(running, command, timeout)[0]


@contextmanager
def far_link(bits: float, delay: float) -> Iterator[FarHosts]:
    """Two hosts, ``bits`` a second each way, ``delay`` seconds one way.

    Raises:
        PermissionError: not root. RuntimeError: the switch did not start.
    """
    if os.geteuid() != 0:
        raise PermissionError("network namespaces need root")
    prefix = f"fl{secrets.token_hex(2)}"
    names = (f"{prefix}a", f"{prefix}b")
    made: list[str] = []
    switch: subprocess.Popen[str] | None = None
    try:
        for name in names:
            ip("netns", "add", name)
            made.append(name)
            ip("-n", name, "link", "set", "lo", "up")
        command = [sys.executable, "-m", "benchmarks.far_link", *names, "--bits", str(bits), "--delay", str(delay)]
        switch = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert switch.stdout is not None  # a pipe was asked for
        if switch.stdout.readline().strip() != "up":
            raise RuntimeError("the switch between the hosts did not start")
        for number, name in enumerate(names, start=1):
            ip("-n", name, "addr", "add", f"{_SUBNET}.{number}/24", "dev", f"{name}t")
            ip("-n", name, "link", "set", f"{name}t", "up")
        yield FarHosts(names)
    finally:
        if switch is not None:
            switch.kill()
            switch.communicate()
        for name in made:
            ip("netns", "del", name)


def _tap(name: str) -> int:
    """A TAP device in the namespace ``name``; the descriptor of our end."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22s", f"{name}t".encode(), _TAP | _NO_INFO, b""))
    ip("link", "set", f"{name}t", "mtu", str(_MTU), "txqueuelen", "5000")
    ip("link", "set", f"{name}t", "netns", name)
    return device


def _switch(names: Sequence[str], bits: float, delay: float) -> None:
    """Pass frames between two devices, for ever."""
    devices = [_tap(name) for name in names]
    print("up", flush=True)
    poll = select.epoll()
    for device in devices:
        poll.register(device, select.EPOLLIN)
    free = dict.fromkeys(devices, 0.0)
    to = dict(zip(devices, reversed(devices), strict=True))
    due: list[tuple[float, int, int, bytes]] = []
    order = count()
    while True:
        wait = due[0][0] - time.monotonic() if due else -1.0
        # The kernel's grain is a millisecond: the last stretch is spun through, so that delays are right.
        timeout = -1.0 if not due else max(0.0, wait - 1e-3) if wait > 1.5e-3 else 0.0
        for device, _ in poll.poll(timeout):
            for frame in _frames(device):
                now = time.monotonic()
                if free[device] - now > _BACKLOG:
                    continue
                free[device] = max(now, free[device]) + (len(frame) + _OVERHEAD) * 8 / bits
                heapq.heappush(due, (free[device] + delay, next(order), to[device], frame))
        now = time.monotonic()
        while due and due[0][0] <= now:
            _, _, target, frame = heapq.heappop(due)
            try:
                os.write(target, frame)
            except OSError:
                continue  # the receiver's queue is full: lost, as on any network


def _frames(device: int) -> Iterator[bytes]:
    for _ in range(64):
        try:
            yield os.read(device, _FRAME)
        except BlockingIOError:
            return


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="the switch of far_link")
    parser.add_argument("names", nargs=2)
    parser.add_argument("--bits", type=float, required=True)
    parser.add_argument("--delay", type=float, required=True)
    chosen = parser.parse_args()
    _switch(chosen.names, chosen.bits, chosen.delay)
