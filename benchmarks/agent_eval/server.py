"""The server that is asked: a child process on a free port."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_READY = re.compile(r"^ready: (\S+)$")


@contextmanager
def running(model: str, options: list[str]) -> Iterator[str]:
    """Serve ``model``; gives the base URL, up to and with ``/v1``."""
    command = [sys.executable, "-u", "-m", "autoglm.cli", "serve", model, "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := _READY.match(line.strip()):
                yield found.group(1)
                return
        raise RuntimeError(f"the server ended with status {process.wait()}: {' '.join(command)}")
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()
