"""Waiting for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable

from autoglm.cache.tiered.link import LinkState
from autoglm.cache.tiered.shared import SharedLevel


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    """Poll; the limit only ends a test that hangs."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not in {seconds:g} s")
        time.sleep(0.002)


def wait_up(*levels: SharedLevel) -> None:
    """Until all are linked and their breakers are closed."""
    for level in levels:
        wait_until(lambda level=level: level.link.state is LinkState.UP, "a tracking link")
        wait_until(lambda level=level: level.breaker.closed, "a closed breaker")
