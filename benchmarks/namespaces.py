"""Network namespaces as hosts: commands in them, and several as the ranks of one world."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence


def call(*command: str) -> None:
    """Raises :class:`RuntimeError` with what ``command`` said, if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def ip(*arguments: str) -> None:
    """``ip``, as :func:`call`."""
    call("ip", *arguments)


def start_rank(
    names: Sequence[str], rank: int, command: Sequence[str], *, master: str, port: int, interface: str
) -> subprocess.Popen[str]:
    """``command`` in the namespace ``names[rank]``, with what ``torchrun`` sets."""
    return subprocess.Popen(
        ["ip", "netns", "exec", names[rank], *command],
        env=os.environ
        | {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": str(len(names))}
        | {"MASTER_ADDR": master, "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": interface},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outputs(running: Sequence[subprocess.Popen[str]], command: Sequence[str], timeout: float) -> list[str]:
    """What each wrote to its standard output; none of them runs on.

    Raises :class:`RuntimeError` with the tail of the errors if one fails.
    """
    try:
        done = [process.communicate(timeout=timeout) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    for process, (_, errors) in zip(running, done, strict=True):
        if process.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {errors[-2000:]}")
    return [output for output, _ in done]
