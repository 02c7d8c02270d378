"""What followed the last few tokens earlier in the same dialogue (prompt lookup, Saxena 2023)."""

from __future__ import annotations

from collections.abc import Sequence

GRAM = 3
"""Tokens that must be equal before a place is a match."""
_LONGEST = 16


class History:
    """An index of one sequence's runs of :data:`GRAM` tokens: where each was last, and went on.

    Args:
        tokens: the prompt; image placeholders may be among them.
    """

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = list(tokens)
        t = self._tokens
        self._places: dict[tuple[int, int, int], int] = dict(
            zip(zip(t, t[1:], t[2:], strict=False), range(GRAM, len(t)), strict=False)
        )

    def add(self, token: int) -> None:
        """One more token."""
        t = self._tokens
        if len(t) >= GRAM:
            self._places[t[-3], t[-2], t[-1]] = len(t)
        t.append(token)

    def find(self) -> tuple[int, int] | None:
        """Index of the token that followed, and how many before it are the same as the last ones (to 16)."""
        t = self._tokens
        if len(t) < GRAM:
            return None
        at = self._places.get((t[-3], t[-2], t[-1]))
        if at is None:
            return None
        same, last = GRAM, len(t)
        while same < _LONGEST and same < at and t[at - same - 1] == t[last - same - 1]:
            same += 1
        return at, same

    def follow(self, at: int, count: int) -> list[int]:
        """Up to ``count`` tokens from ``at`` on."""
        return self._tokens[at : at + count]
