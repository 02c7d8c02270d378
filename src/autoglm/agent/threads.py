"""Blocking device calls from asynchronous code."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run ``call`` in a worker thread. Cancelled, it still waits for the call: a device takes one caller at a time.

    A call is therefore as long as the device's own time limits let it be.
    """
    # A future of the executor, not a task: a loop that shuts down cancels every task, and the thread would go on alone.
    work = asyncio.get_running_loop().run_in_executor(None, functools.partial(call, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            try:
                await asyncio.wait([work])
            except asyncio.CancelledError:
                continue  # asked to stop once more; it is already stopping
        work.exception()  # marked as seen: nobody is left to hear of it
        raise
