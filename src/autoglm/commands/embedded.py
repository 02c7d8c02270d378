"""A server of the embedded model for the length of one command."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from autoglm.errors import EngineUnavailableError

_READY = re.compile(r"^ready: (\S+)$")
_STOP_SECONDS = 15


@contextmanager
def served(model: str, options: Sequence[str] = ()) -> Iterator[str]:
    """Serve ``model`` on a free loopback port; gives the base URL, up to and with ``/v1``.

    Raises:
        EngineUnavailableError: the server ended before it was ready.
    """
    command = [sys.executable, "-u", "-m", "autoglm.cli", "serve", model, "--port", "0", "--grace", "2", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        url = next((found.group(1) for line in process.stdout if (found := _READY.match(line.strip()))), None)
        if url is None:
            raise EngineUnavailableError(f"the server of {model} ended with status {process.wait()}", field="model")
        yield url
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
