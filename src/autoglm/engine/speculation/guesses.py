"""What may come next in one sequence, from everything that is known about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from autoglm.engine.speculation.history import History
from autoglm.engine.speculation.tree import Place, TokenTree

_CONTEXTS = 3
GRAMMAR, ANSWERS, HISTORY = 0, 9, 18
"""First kind of each source. Kinds tell how long the known context is, and in trees how often the guess followed it."""
KINDS = HISTORY + _CONTEXTS


class Guess(NamedTuple):
    """One token, and the kind of guess it is (see :class:`~autoglm.engine.speculation.adapt.Rates`)."""

    token: int
    kind: int


class TreeView:
    """Where one sequence is in a tree."""

    __slots__ = ("_first_kind", "_place", "_tree")

    def __init__(self, tree: TokenTree, first_kind: int) -> None:
        self._tree = tree
        self._place: Place = [tree.root]
        self._first_kind = first_kind

    def add(self, token: int) -> None:
        """One more token of the sequence."""
        self._place = self._tree.advance(self._place, token)

    def first(self) -> Guess | None:
        """The next token, if there is a guess."""
        return self._guess(self._place)

    def follow(self, count: int) -> list[Guess]:
        """The next tokens, up to ``count``."""
        found: list[Guess] = []
        place = self._place
        while len(found) < count and (guess := self._guess(place)) is not None:
            found.append(guess)
            place = self._tree.advance(place, guess.token)
        return found

    def _guess(self, place: Place) -> Guess | None:
        length = len(place) - 1  # the last is the root: nothing known is no context
        for index in range(length):
            node = place[index]
            best = node.best
            if best is not None:
                share = best.count / node.count if node.count else 0.0
                kind = _CONTEXTS * _context(length - index) + (2 if share >= 0.9 else 1 if share >= 0.6 else 0)
                return Guess(best.token, self._first_kind + kind)
        return None


class HistoryView:
    """The same over the sequence's own tokens."""

    __slots__ = ("_history",)

    def __init__(self, prompt: Sequence[int]) -> None:
        self._history = History(prompt)

    def add(self, token: int) -> None:
        """One more token of the sequence."""
        self._history.add(token)

    def first(self) -> Guess | None:
        """The next token, if there is a guess."""
        found = self.follow(1)
        return found[0] if found else None

    def follow(self, count: int) -> list[Guess]:
        """The next tokens, up to ``count``."""
        found = self._history.find()
        if found is None:
            return []
        at, same = found
        tokens = self._history.follow(at, count)
        return [Guess(token, HISTORY + _context(same + i - 1)) for i, token in enumerate(tokens)]


View = TreeView | HistoryView


def _context(length: int) -> int:
    """Class of a context's length: short, middling, long."""
    return 0 if length <= 2 else 1 if length <= 5 else 2
