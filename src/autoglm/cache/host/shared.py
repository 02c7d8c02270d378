"""Fetching from and writing to the stores below host memory, in a thread of its own: the engine's loop never waits.

Fetches go before writes. Both queues are bounded; what does not fit is not done, which costs a later miss.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from autoglm.cache.host.stores import BlobStore, Item

log = logging.getLogger(__name__)
_BATCHES = (1, 4, 16, 64)
_WRITE_ITEMS = 16
_WRITTEN_NAMES = 1 << 17
_PROBE_SECONDS = 30.0


@dataclass(slots=True, eq=False)
class Fetch:
    """Values wanted for one prompt.

    Attributes:
        chain: names of blocks, in order; the first that is nowhere ends it.
        others: (index into ``chain``, name): wanted if fewer than that many blocks were found.
        arrived: what came so far, to be taken by the loop. done: nothing more comes.
        deadline: from then on computing is cheaper than waiting.
    """

    chain: Sequence[bytes]
    others: Sequence[tuple[int, bytes]] = ()
    deadline: float = 0.0
    arrived: deque[Item] = field(default_factory=deque)
    done: bool = False
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class _Write:
    names: Sequence[bytes]
    payloads: Callable[[], Sequence[memoryview]]
    nbytes: int


class SharedStores:
    """The thread, its queues, and the stores in order of nearness.

    Args:
        queue_bytes: of values that wait to be written. renew: seconds after which a value is written again.
    """

    def __init__(
        self, stores: Sequence[BlobStore], *, queue_bytes: int = 256 * 2**20, queue_fetches: int = 256, renew: float
    ) -> None:
        self.stores = tuple(stores)
        self.dropped = 0
        self._queue_bytes = queue_bytes
        self._queue_fetches = queue_fetches
        self._renew = renew
        self._fetches: deque[Fetch] = deque()
        self._writes: deque[_Write] = deque()
        self._waiting_bytes = 0
        self._written: OrderedDict[bytes, float] = OrderedDict()
        self._fetch_seconds = 0.0  # of a block, running mean
        self._last_fetch = 0.0
        self._stop = False
        self._wake = threading.Condition()
        self.arrival = threading.Event()
        self._thread = threading.Thread(target=self._work, name="shared-kv", daemon=True)
        self._thread.start()

    def worth_asking(self, compute_seconds: float) -> bool:
        """Whether a block lately came faster than it is computed; now and then yes, to look again."""
        if not any(store.available for store in self.stores):
            return False
        return self._fetch_seconds < compute_seconds or time.monotonic() - self._last_fetch > _PROBE_SECONDS

    def fetch(self, fetch: Fetch) -> bool:
        """Queue it, unless too many wait."""
        with self._wake:
            if len(self._fetches) >= self._queue_fetches or self._stop:
                return False
            self._fetches.append(fetch)
            self._wake.notify()
        return True

    def fresh(self, name: bytes) -> bool:
        """Whether it was written lately."""
        return time.monotonic() - self._written.get(name, -self._renew) < self._renew

    def write(self, names: Sequence[bytes], payloads: Callable[[], Sequence[memoryview]], nbytes: int) -> bool:
        """Queue values; ``payloads`` is called in the thread."""
        with self._wake:
            if self._waiting_bytes + nbytes > self._queue_bytes or self._stop:
                self.dropped += len(names)
                return False
            self._waiting_bytes += nbytes
            self._writes.append(_Write(names, payloads, nbytes))
            self._wake.notify()
        return True

    def drain(self, seconds: float) -> bool:
        """Wait until all is written, at most so long."""
        end = time.monotonic() + seconds
        with self._wake:
            while self._waiting_bytes or self._fetches:
                left = end - time.monotonic()
                if left <= 0 or not self._thread.is_alive():
                    return False
                self._wake.wait(min(left, 0.05))
        return True

    def close(self, seconds: float = 3.0) -> None:
        """Write what waits, for a while, then stop."""
        self.drain(seconds)
        with self._wake:
            self._stop = True
            self._wake.notify()
        self._thread.join(seconds)
        for store in self.stores:
            store.close()

    def _work(self) -> None:
        while True:
            with self._wake:
                while not (self._fetches or self._writes or self._stop):
                    self._wake.wait()
                if self._stop:
                    return
                fetch = self._fetches.popleft() if self._fetches else None
                write = self._writes.popleft() if fetch is None else None
            if fetch is not None:
                self._serve(fetch)
            if write is not None:
                try:
                    self._put(write)
                except Exception:  # one value's trouble must not end the thread: the others are served
                    log.exception("shared KV: a write failed")
                with self._wake:
                    self._waiting_bytes -= write.nbytes
                    self._wake.notify_all()

    def _serve(self, fetch: Fetch) -> None:
        try:
            self._get(fetch)
        except Exception:  # as above; what arrived is good
            log.exception("shared KV: a fetch failed")
        fetch.done = True
        self.arrival.set()

    def _get(self, fetch: Fetch) -> None:
        start, found, batch = time.monotonic(), 0, 0
        while found < len(fetch.chain) and not self._late(fetch):
            size = _BATCHES[min(batch, len(_BATCHES) - 1)]
            names = fetch.chain[found : found + size]
            payloads = self._ask(names)
            whole = next((i for i, p in enumerate(payloads) if p is None), len(names))
            for name, payload in zip(names[:whole], payloads, strict=False):
                if payload is not None:
                    fetch.arrived.append((name, payload))
            self.arrival.set()
            found += whole
            batch += 1
            if whole < len(names):
                break
        if found:
            each = (time.monotonic() - start) / found
            self._fetch_seconds = each if not self._fetch_seconds else 0.8 * self._fetch_seconds + 0.2 * each
        self._last_fetch = time.monotonic()
        others = [name for needed, name in fetch.others if found < needed]
        if others and not self._late(fetch):
            for name, payload in zip(others, self._ask(others), strict=True):
                if payload is not None:
                    fetch.arrived.append((name, payload))

    def _ask(self, names: Sequence[bytes]) -> list[memoryview | None]:
        found: list[memoryview | None] = [None] * len(names)
        for store in self.stores:
            missing = [i for i, payload in enumerate(found) if payload is None]
            if missing:
                for i, payload in zip(missing, store.get([names[i] for i in missing]), strict=True):
                    found[i] = payload
        for name, payload in zip(names, found, strict=True):
            if payload is None:
                self._written.pop(name, None)  # gone there: write it again when it is next computed
        return found

    def _put(self, write: _Write) -> None:
        payloads = write.payloads()
        for start in range(0, len(write.names), _WRITE_ITEMS):
            items = list(zip(write.names, payloads, strict=True))[start : start + _WRITE_ITEMS]
            kept = [store.put(items) for store in self.stores]
            if all(kept):
                now = time.monotonic()
                for name, _ in items:
                    self._written[name] = now
                    self._written.move_to_end(name)
                while len(self._written) > _WRITTEN_NAMES:
                    self._written.popitem(last=False)
            while self._fetches:  # somebody waits for an answer
                with self._wake:
                    fetch = self._fetches.popleft()
                self._serve(fetch)

    @staticmethod
    def _late(fetch: Fetch) -> bool:
        return fetch.cancelled or time.monotonic() > fetch.deadline
