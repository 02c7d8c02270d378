"""``autoglm serve`` on a host that serves nothing itself: a rank of a replica whose rank 0 is elsewhere."""

from __future__ import annotations

import contextlib
import logging
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

from autoglm.engine.ranks.messages import REFUSED
from autoglm.parallel.world import World

log = logging.getLogger(__name__)
_BACKOFF_SECONDS = 1.0


def is_follower(world_size: int) -> bool:
    """Whether this process was started as another rank than 0 of a replica of several. Raises as ``World``."""
    world = World.of() if world_size > 1 else None
    if world is not None:
        world.check(world_size)
    return world is not None and world.rank > 0


def follow(checkpoint: Path, config_json: str) -> int:
    """Be that rank, life after life of the replica, until rank 0 stops, refuses it, or a signal comes."""
    command = [sys.executable, "-m", "autoglm.engine.ranks.worker"]
    command += ["--model", str(checkpoint), "--config", config_json]
    stop = threading.Event()
    process: subprocess.Popen[bytes] | None = None

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    while not stop.is_set():
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        status = process.wait()
        if stop.is_set():
            break
        if status in {0, REFUSED}:
            return status
        log.error("this rank ended with status %d; starting it again", status)
        stop.wait(_BACKOFF_SECONDS)
    return 0
