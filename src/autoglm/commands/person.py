"""The person at the terminal, who confirms and takes over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TextIO

from autoglm.agent.actions import Interact, TakeOver, Tap


class Person:
    """Answers from a terminal; without one, every question is answered with no.

    Args:
        ask: shows a question.
        source: where answers are typed.
        always_yes: confirms sensitive taps unasked. Taking over needs a person all the same.
    """

    def __init__(self, ask: Callable[[str], None], source: TextIO, always_yes: bool) -> None:
        self._ask = ask
        self._source = source
        self._always_yes = always_yes

    async def confirm(self, tap: Tap) -> bool:
        """Whether a sensitive tap may be done; only an explicit yes is one."""
        if self._always_yes:
            return True
        return (await self._line(f"{tap.message or 'a sensitive tap'}: do it? [y/N] ")).lower() in ("y", "yes", "是")

    async def take_over(self, action: TakeOver | Interact) -> bool:
        """Wait until the person is done with the phone."""
        message = action.message if isinstance(action, TakeOver) else "choose what to do on the phone"
        return (await self._line(f"{message}: Enter when done, n to stop ")).lower() not in ("n", "no", "否")

    async def _line(self, question: str) -> str:
        """One typed line; ``n`` where nobody can type one.

        Read by the event loop, not in a thread: a thread that waits for a key cannot be stopped.
        """
        if not self._source.isatty():
            return "n"
        self._ask(question)
        loop = asyncio.get_running_loop()
        typed = asyncio.Event()
        loop.add_reader(self._source, typed.set)
        try:
            await typed.wait()
        finally:
            loop.remove_reader(self._source)
        line = self._source.readline()
        return line.strip() if line else "n"
