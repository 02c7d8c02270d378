"""Hosts on slow links, on one machine: network namespaces, each behind its own full-duplex link of a given rate.

Needs root, ``ip`` and ``tc``. The kernel's token bucket shapes both ends of every link. Nothing here leaves the
machine: the bridge between the hosts lies in a namespace of its own without an uplink.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.namespaces import call, ip, outputs, start_rank

_SUBNET = "10.77.0"
_PORT = 29600
_FACTOR = {"kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
_SUPER_FRAME = 16384
"""Bytes of the largest frame handed to the link: larger ones would pass the token bucket in bursts."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """Hosts that are up."""

    names: tuple[str, ...]

    def address(self, rank: int) -> str:
        """IPv4 address of a host."""
        return f"{_SUBNET}.{rank + 1}"

    def start(self, rank: int, command: Sequence[str]) -> subprocess.Popen[str]:
        """``command`` on one host, as :meth:`run` does on all."""
        return start_rank(self.names, rank, command, master=self.address(0), port=_PORT, interface="eth0")

    def run(self, command: Sequence[str], timeout: float) -> list[str]:
        """``command`` on every host at once, as ranks of one world; what each wrote to its standard output.

        Sets what ``torchrun`` sets: RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT. Raises :class:`RuntimeError` with the
        tail of the errors if one of them fails.
        """
        return outputs([self.start(rank, command) for rank in range(len(self.names))], command, timeout)


@contextmanager
def slow_link(hosts: int, rate: str) -> Iterator[Hosts]:
    """``hosts`` hosts with links of ``rate`` (as ``tc`` writes it: ``100mbit``, ``1gbit``; ``none``: unlimited).

    Raises:
        PermissionError: not root.
    """
    if os.geteuid() != 0:
        raise PermissionError("network namespaces need root")
    prefix = f"ag{secrets.token_hex(2)}"
    middle = f"{prefix}b"
    names = tuple(f"{prefix}h{i}" for i in range(hosts))
    made: list[str] = []
    try:
        for name in (middle, *names):
            ip("netns", "add", name)
            made.append(name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", middle, "link", "add", "br0", "type", "bridge")
        ip("-n", middle, "link", "set", "br0", "up")
        for i, name in enumerate(names):
            _connect(name, i, middle, f"{prefix}p{i}", rate)
        yield Hosts(names)
    finally:
        for name in made:
            ip("netns", "del", name)


def possible() -> bool:
    """Whether this process may make hosts: root, with the right to make network namespaces, and ``ip`` and ``tc``."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("tc") is None:
        return False
    probe = f"ag{secrets.token_hex(3)}"
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False).returncode != 0:
        return False
    ip("netns", "del", probe)
    return True


def _connect(name: str, number: int, middle: str, port: str, rate: str) -> None:
    ip("link", "add", port, "netns", middle, "type", "veth", "peer", "name", "eth0", "netns", name)
    for space, device in ((middle, port), (name, "eth0")):
        ip("-n", space, "link", "set", device, "gso_max_size", str(_SUPER_FRAME))
        if rate != "none":
            _shape(space, device, rate)
    ip("-n", middle, "link", "set", port, "master", "br0", "up")
    ip("-n", name, "addr", "add", f"{_SUBNET}.{number + 1}/24", "dev", "eth0")
    ip("-n", name, "link", "set", "eth0", "up")


def _shape(space: str, device: str, rate: str) -> None:
    found = re.fullmatch(r"(\d+)(kbit|mbit|gbit)", rate)
    if found is None:
        raise ValueError(f"a rate reads like 100mbit, not {rate!r}")
    per_second = int(found[1]) * _FACTOR[found[2]] // 8
    burst = max(per_second // 1000, 20_000)  # a millisecond of the link, at least one large frame
    limit = per_second // 20 + 200_000
    tbf = ["tbf", "rate", rate, "burst", f"{burst}b", "limit", str(limit)]
    call("ip", "netns", "exec", space, "tc", "qdisc", "replace", "dev", device, "root", *tbf)


def python(module: str, *arguments: str) -> list[str]:
    """argv of a module of ours."""
    return [sys.executable, "-m", module, *arguments]


def last_json(output: str) -> object:
    """The last line of a worker's output, which is its result."""
    found: object = json.loads(output.strip().splitlines()[-1])
    return found
