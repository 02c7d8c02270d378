"""Named totals that any thread may add to."""

from __future__ import annotations

import threading
from collections.abc import Iterable


class Counters:
    """Totals since start. A plain ``+=`` from several threads loses some; this does not."""

    def __init__(self, names: Iterable[str]) -> None:
        self._lock = threading.Lock()
        self._totals: dict[str, float] = dict.fromkeys(names, 0)

    def add(self, name: str, amount: float = 1) -> None:
        """Raises :class:`KeyError` for a name it was not made with."""
        with self._lock:
            self._totals[name] += amount

    def __getitem__(self, name: str) -> float:
        return self._totals[name]

    def snapshot(self) -> dict[str, float]:
        with self._lock:
            return dict(self._totals)
