"""A clock to set, a listener that remembers, keys that misbehave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autoglm.cache.local import Cause, Implementation, LocalCache, LocalConfig, Policy

IMPLEMENTATIONS = (Implementation.SLAB, Implementation.PYTHON)
POLICIES = tuple(Policy)


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Notes(list[tuple[Any, Any, Cause]]):
    """A listener that keeps what it is told."""

    def __call__(self, key: Any, value: Any, cause: Cause) -> None:
        self.append((key, value, cause))

    def take(self) -> list[tuple[Any, Any, Cause]]:
        """What was told since the last call."""
        taken = list(self)
        self.clear()
        return taken


def make(implementation: Implementation, **options: Any) -> LocalCache[Any, Any]:
    """A cache; ``weigher``, ``listener`` and ``clock`` go to it, the rest to its configuration."""
    outside = {name: options.pop(name) for name in ("weigher", "listener", "clock") if name in options}
    return LocalCache(LocalConfig(implementation=implementation, **options), **outside)


class HookedKey:
    """Equal by number; all hashes are equal. ``hook`` runs inside every comparison and hash."""

    hook: Callable[[str], None] | None = None

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        self._call("hash")
        return 7

    def __eq__(self, other: object) -> bool:
        self._call("eq")
        return isinstance(other, HookedKey) and self.number == other.number

    def __repr__(self) -> str:
        return f"HookedKey({self.number})"

    def _call(self, where: str) -> None:
        if HookedKey.hook is not None:
            HookedKey.hook(where)
