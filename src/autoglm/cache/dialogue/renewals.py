"""A question keeps its session's entries alive, without making the asker wait for it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor

from autoglm.cache.dialogue.store import DialogueStore

_MAX_REMEMBERED = 10_000


class Renewals:
    """Renews a session at most once in ``interval`` seconds. Thread-safe.

    Args:
        executor: runs the renewal; ``None``: it is done at once, as a store in memory takes no time. At most one per
            session and interval is handed over, so what waits there is bounded by the sessions remembered.
    """

    def __init__(
        self, store: DialogueStore, executor: Executor | None, interval: float, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._executor = executor
        self._interval = interval
        self._clock = clock
        self._lock = threading.Lock()
        self._last: OrderedDict[tuple[str, str], float] = OrderedDict()
        self.done = 0

    def ask(self, tenant: str, session: str, ttl: float) -> None:
        """Renew, unless that was just done."""
        now, name = self._clock(), (tenant, session)
        with self._lock:
            if now - self._last.get(name, float("-inf")) < self._interval:
                return
            self._last[name] = now
            self._last.move_to_end(name)
            if len(self._last) > _MAX_REMEMBERED:
                self._last.popitem(last=False)
        if self._executor is None:
            self._renew(tenant, session, ttl)
            return
        try:
            self._executor.submit(self._renew, tenant, session, ttl)
        except RuntimeError:
            return  # the shared level has been closed

    def _renew(self, tenant: str, session: str, ttl: float) -> None:
        self._store.renew(tenant, session, ttl)
        self.done += 1
