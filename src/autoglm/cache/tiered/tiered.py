"""The two-level cache for threads."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from autoglm.cache.tiered.codec import Codec, pack, unpack
from autoglm.cache.tiered.coherence import Cell, Copies, PrefixListener
from autoglm.cache.tiered.config import TieredConfig
from autoglm.cache.tiered.counters import Counters
from autoglm.cache.tiered.flights import AbandonedError, Flight, Flights, Outcome, loading
from autoglm.cache.tiered.found import Found, Status
from autoglm.cache.tiered.level import FirstLevel
from autoglm.cache.tiered.local_level import LocalLevel
from autoglm.cache.tiered.stats import TieredStats, stats_of
from autoglm.cache.tiered.steps import Do, Loading, Pause, Steps
from autoglm.cache.tiered.warm import WarmEntry, worth_of

if TYPE_CHECKING:
    from autoglm.cache.tiered.shared import SharedLevel

V = TypeVar("V")
Loader = Callable[[str], V | None]
_REFRESH_PAUSE = 0.05
TRIES = 4  # of a follower whose load was overtaken by a change of the key
COUNTERS = (
    "local_hits",
    "shared_hits",
    "negative_hits",
    "misses",
    "loads",
    "load_failures",
    "load_seconds",
    "joined",
    "waits",
    "refreshes",
    "refreshes_skipped",
    "dropped_loads",
    "not_stored",
    "unreadable",
    "hit_age_seconds",
)


class TieredCache(Generic[V]):
    """A first level in this process, in front of a shared level if there is one. Thread-safe.

    Nothing that goes wrong with the shared level reaches a caller: it costs a miss. ``None`` is not a value, it
    means "there is none", and a loader's ``None`` is remembered for ``negative_ttl``.

    Args:
        shared: ``None``: the first level alone, with the same behaviour.
        level: the first level; ``None``: a :class:`LocalCache` with the limits of ``config``.
    """

    def __init__(
        self,
        config: TieredConfig,
        codec: Codec[V],
        *,
        shared: SharedLevel | None = None,
        level: FirstLevel[Cell[V]] | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self.config = config
        self.shared = shared
        self.counters = Counters(COUNTERS)
        link = None if shared is None else shared.link
        fresh_until = (lambda: float("inf")) if link is None else (lambda: link.fresh_until)
        self.copies: Copies[V] = Copies(
            level if level is not None else LocalLevel(config.max_entries, config.max_bytes, clock),
            fresh_until,
            config.detached_ttl,
            clock,
        )
        self.flights: Flights[V] = Flights()
        self.steps: Loading[V] = Loading(config, codec, self.copies, shared, self.counters, rng or random.Random())
        self._clock = clock
        self._refreshing = threading.Semaphore(config.max_refreshes)
        self._refreshers: ThreadPoolExecutor | None = None
        self._closed = False
        if link is not None:
            link.listen(PrefixListener(f"{config.name}:", self.copies))

    def get(self, key: str) -> V | None:
        """The value; ``None`` if no level has one."""
        cell = self.local(key)
        if cell is not None:
            return cell.value
        return run(self.steps.fetch(key), _no_loader, key).value

    def get_or_load(self, key: str, loader: Loader[V], *, ttl: float | None = None) -> V | None:
        """The value, loaded if no level has it. One load per key at a time, over all threads and processes.

        Args:
            ttl: seconds instead of the configured ones, before jitter.

        Raises:
            RecursiveLoadError: ``loader`` asks for its own key.
            Exception: whatever ``loader`` raises; all callers that waited for it get it, and it is not kept.
        """
        for attempt in range(TRIES):
            cell = self.local(key)
            if cell is not None:
                if self.due(cell):
                    self._refresh(key, loader, ttl)
                return cell.value
            flight, leads = self.join(key)
            if leads:
                return self._lead(flight, key, loader, self.steps.fetch_or_load(key, ttl)).value
            self.counters.add("joined")
            try:
                outcome = flight.future.result()
            except AbandonedError:
                continue
            if outcome.current or attempt == TRIES - 1:
                return outcome.value
        return loader(key)

    def put(self, key: str, value: V, *, ttl: float | None = None) -> bool:
        """Replace. ``False``: the shared level could not be told, and will have ``key`` removed once it can.

        Raises:
            ValueError: the codec cannot write ``value``.
        """
        made, life = self.steps.frame_of(value, ttl)
        data = pack(made)
        self.forget(key)
        if self.shared is None:
            token = self.copies.begin(key)
            cell = self.steps.local_cell(value, life, 0.0, len(data), backed=True)
            return self.copies.commit(key, token, cell)
        status = self.shared.put(self.steps.name(key), data, life)
        self.forget(key)  # fills that began before the write was done
        return status is Status.DONE

    def invalidate(self, key: str) -> bool:
        """Remove, everywhere; a load under way is not stored. ``False``: the shared level will be told later."""
        self.forget(key)
        if self.shared is None:
            return True
        status = self.shared.remove(self.steps.name(key))
        self.forget(key)
        return status is Status.DONE

    def clear(self) -> bool:
        """Remove all entries of this cache, everywhere; as :meth:`invalidate`."""
        self.flights.detach_all()
        self.copies.drop_all()
        if self.shared is None:
            return True
        status = self.shared.remove_all(f"{self.config.name}:")
        self.flights.detach_all()
        self.copies.drop_all()
        return status is Status.DONE

    def prefetch(self, keys: Iterable[str]) -> int:
        """Copy what the shared level holds of ``keys``; how many it held."""
        wanted = list(keys)
        if self.shared is None:
            return 0
        tokens = [self.copies.begin(key) for key in wanted]
        found = self.shared.fetch_many([self.steps.name(key) for key in wanted])
        count = 0
        for index, (key, token) in enumerate(zip(wanted, tokens, strict=True)):
            cell = None if isinstance(found, Status) else self.steps.cell_of(found[index])
            if cell is not None and self.copies.commit(key, token, cell):
                count += 1
            else:
                self.copies.give_up(key, token)
        return count

    def warm_entries(self) -> list[WarmEntry]:
        """First-level entries for the warm-up file; values only if they cannot become wrong."""
        now, wall = self._clock(), time.time()
        made: list[WarmEntry] = []
        for key, cell in self.copies.items():
            data = b""
            if cell.value is None:
                continue
            if self.config.immutable:
                data = pack(self.steps.frame_of(cell.value, cell.expires - now, cell.cost)[0])
            made.append(WarmEntry(self.config.name, key, data, wall + cell.expires - now, worth_of(cell)))
        return made

    def warm(self, entries: Sequence[WarmEntry]) -> int:
        """Take entries of an earlier run: from the shared level, or else, if they cannot be wrong, as they were."""
        wall = time.time()
        if self.shared is not None:
            if self.config.immutable:
                for entry in entries:
                    if entry.data and entry.ends > wall:
                        self.shared.put_if(self.steps.name(entry.key), b"", entry.data, entry.ends - wall)
            return self.prefetch([entry.key for entry in entries])
        count = 0
        for entry in entries:
            cell = self.steps.cell_of(Found(unpack(entry.data), left=entry.ends - wall, size=len(entry.data)))
            if cell is not None and self.config.immutable:
                count += self.copies.commit(entry.key, self.copies.begin(entry.key), cell)
        return count

    def items(self) -> Iterator[tuple[str, Cell[V]]]:
        """First-level entries that are alive."""
        return self.copies.items()

    def stats(self) -> TieredStats:
        """Counters since start, by level."""
        figures = self.counters.snapshot() | self.copies.figures()
        return stats_of(self.config, figures, self.copies.level.figures(), len(self.flights))

    def close(self) -> None:
        """End background loads. The shared level stays open: it has other users."""
        self._closed = True
        if self._refreshers is not None:
            self._refreshers.shutdown(wait=True, cancel_futures=True)

    # For the asynchronous face, which shares everything but the way of waiting.

    def local(self, key: str) -> Cell[V] | None:
        """The first level's answer, counted if it is one."""
        now = self._clock()
        cell = self.copies.get(key, now)
        if cell is not None:
            self.counters.add("local_hits")
            self.counters.add("hit_age_seconds", now - cell.at)
            if cell.value is None:
                self.counters.add("negative_hits")
        return cell

    def join(self, key: str) -> tuple[Flight[V], bool]:
        """See :meth:`Flights.join`. A load that ended since the caller looked gives a flight that has landed."""
        flight, leads = self.flights.join(key)
        cell = self.copies.get(key, self._clock()) if leads else None
        if cell is None:
            return flight, leads
        self.flights.land(key, flight, Outcome(cell.value))
        return flight, False

    def due(self, cell: Cell[V]) -> bool:
        """Whether this read should have the entry loaded anew. The next one asks again only after a while."""
        now = self._clock()
        if now < cell.refresh or self._closed:
            return False
        cell.refresh = now + max(_REFRESH_PAUSE, (cell.expires - now) / 4)
        return True

    def forget(self, key: str) -> None:
        """Drop the copy, void fills, and let new callers start a new load."""
        self.flights.detach(key)
        self.copies.drop(key)

    def begin_refresh(self, key: str) -> Flight[V] | None:
        """Room and a flight for a background load; end it by :meth:`end_refresh`."""
        if not self._refreshing.acquire(blocking=False):
            self.counters.add("refreshes_skipped")
            return None
        flight = self.flights.start(key)
        if flight is None:
            self._refreshing.release()
        return flight

    def end_refresh(self, key: str, flight: Flight[V], outcome: Outcome[V] | None) -> None:
        """A background load that failed, or was another process's, is nobody's error: followers start again."""
        self._refreshing.release()
        if outcome is None or not outcome.current:
            self.flights.fail(key, flight, AbandonedError())
        else:
            self.counters.add("refreshes")
            self.flights.land(key, flight, outcome)

    def _refresh(self, key: str, loader: Loader[V], ttl: float | None) -> None:
        flight = self.begin_refresh(key)
        if flight is None:
            return
        if self._refreshers is None:
            self._refreshers = ThreadPoolExecutor(max(1, self.config.max_refreshes), f"refresh-{self.config.name}")
        try:
            self._refreshers.submit(self._refresh_now, flight, key, loader, ttl)
        except RuntimeError:  # closed meanwhile
            self.end_refresh(key, flight, None)

    def _refresh_now(self, flight: Flight[V], key: str, loader: Loader[V], ttl: float | None) -> None:
        outcome: Outcome[V] | None = None
        mark = loading.set(loading.get() | {(id(self.flights), key)})
        try:
            outcome = run(self.steps.reload(key, ttl), loader, key)
        except Exception:
            outcome = None  # counted as a failed load; the entry stays until it expires
        finally:
            loading.reset(mark)
            self.end_refresh(key, flight, outcome)

    def _lead(self, flight: Flight[V], key: str, loader: Loader[V], steps: Steps[V]) -> Outcome[V]:
        mark = loading.set(loading.get() | {(id(self.flights), key)})
        try:
            outcome = run(steps, loader, key)
        except Exception as error:
            self.flights.fail(key, flight, error)
            raise
        except BaseException:
            self.flights.fail(key, flight, AbandonedError())
            raise
        finally:
            loading.reset(mark)
        self.flights.land(key, flight, outcome)
        return outcome


def run(steps: Steps[V], loader: Loader[V], key: str) -> Outcome[V]:
    """Carry out the steps in this thread."""
    answer: Any = None
    error: BaseException | None = None
    try:
        while True:
            step = steps.send(answer) if error is None else steps.throw(error)
            answer, error = None, None
            try:
                if isinstance(step, Do):
                    answer = step.call()
                elif isinstance(step, Pause):
                    time.sleep(step.seconds)
                else:
                    answer = loader(key)
            except BaseException as caught:
                error = caught
    except StopIteration as end:
        outcome: Outcome[V] = end.value
        return outcome


def _no_loader(key: str) -> None:
    raise RuntimeError(f"no step of a plain read loads ({key})")
