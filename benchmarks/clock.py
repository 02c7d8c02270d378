"""Wall and CPU time of a subject's process, its children included, and its peak memory."""

from __future__ import annotations

import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil


class Mark(NamedTuple):
    """Seconds since the clock's start."""

    wall: float
    cpu: float


class Clock:
    """Starts when made; a call reads it.

    CPU seconds count all threads of this process, children that ended (``RUSAGE_CHILDREN``) and children that
    were alive when the (first) clock started. Looking for children walks all processes, so neither a read nor
    :meth:`restarted` does it.
    """

    def __init__(self, children: list[psutil.Process] | None = None) -> None:
        self._children = psutil.Process().children(recursive=True) if children is None else children
        self._cpu = self._cpu_now()
        self._wall = time.perf_counter()

    def __call__(self) -> Mark:
        return Mark(time.perf_counter() - self._wall, self._cpu_now() - self._cpu)

    def restarted(self) -> Clock:
        """A new clock at zero that watches the same children."""
        return Clock(self._children)

    def _cpu_now(self) -> float:
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        total = time.process_time() + ended.ru_utime + ended.ru_stime
        for child in self._children:
            with suppress(psutil.NoSuchProcess):
                times = child.cpu_times()
                total += times.user + times.system
        return total


def peak_rss_bytes() -> int:
    """Peak resident memory of this process.

    Not ``ru_maxrss``: a child process starts with its parent's value there.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmHWM in /proc/self/status")
