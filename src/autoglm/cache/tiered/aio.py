"""The two-level cache for event loops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from autoglm.cache.tiered.flights import AbandonedError, Flight, Outcome, loading
from autoglm.cache.tiered.steps import Do, Pause, Steps
from autoglm.cache.tiered.tiered import TRIES, TieredCache

T = TypeVar("T")
V = TypeVar("V")
AsyncLoader = Callable[[str], Awaitable[V | None]]


class AsyncTieredCache(Generic[V]):
    """A :class:`TieredCache` as coroutines. Threads may use the cache beside it: both share levels and flights.

    A hit in the first level is answered on the loop. Whatever talks to the shared level or decodes a value runs in
    the shared level's own threads, so a large value does not hold up the loop. A load is a task of its own: a caller
    that is cancelled leaves it, and whoever else waits for it, alone.
    """

    def __init__(self, cache: TieredCache[V]) -> None:
        self.cache = cache
        self._executor: ThreadPoolExecutor | None = None if cache.shared is None else cache.shared.executor
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, key: str) -> V | None:
        """See :meth:`TieredCache.get`."""
        cell = self.cache.local(key)
        if cell is not None:
            return cell.value
        return (await self._run(self.cache.steps.fetch(key), None, key)).value

    async def get_or_load(self, key: str, loader: AsyncLoader[V], *, ttl: float | None = None) -> V | None:
        """See :meth:`TieredCache.get_or_load`; ``loader`` is a coroutine function."""
        cache = self.cache
        for attempt in range(TRIES):
            cell = cache.local(key)
            if cell is not None:
                if cache.due(cell) and (refresh := cache.begin_refresh(key)) is not None:
                    self._spawn(self._refresh(refresh, key, loader, ttl))
                return cell.value
            flight, leads = cache.join(key)
            if leads:
                self._spawn(self._lead(flight, key, loader, ttl))
            else:
                cache.counters.add("joined")
            try:
                # Cancelling a caller must not reach the future that the others wait for.
                outcome = await asyncio.shield(asyncio.wrap_future(flight.future))
            except AbandonedError:
                continue
            if outcome.current or leads or attempt == TRIES - 1:
                return outcome.value
        return await loader(key)

    async def put(self, key: str, value: V, *, ttl: float | None = None) -> bool:
        """See :meth:`TieredCache.put`."""
        return await self._call(lambda: self.cache.put(key, value, ttl=ttl))

    async def invalidate(self, key: str) -> bool:
        """See :meth:`TieredCache.invalidate`."""
        return await self._call(lambda: self.cache.invalidate(key))

    async def clear(self) -> bool:
        """See :meth:`TieredCache.clear`."""
        return await self._call(self.cache.clear)

    async def close(self) -> None:
        """End the loads that this loop runs, and the cache's own."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self.cache.close)

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _lead(self, flight: Flight[V], key: str, loader: AsyncLoader[V], ttl: float | None) -> None:
        cache = self.cache
        loading.set(loading.get() | {(id(cache.flights), key)})
        try:
            outcome = await self._run(cache.steps.fetch_or_load(key, ttl), loader, key)
        except Exception as error:
            cache.flights.fail(key, flight, error)
        except BaseException:
            cache.flights.fail(key, flight, AbandonedError())
            raise
        else:
            cache.flights.land(key, flight, outcome)

    async def _refresh(self, flight: Flight[V], key: str, loader: AsyncLoader[V], ttl: float | None) -> None:
        loading.set(loading.get() | {(id(self.cache.flights), key)})
        outcome: Outcome[V] | None = None
        try:
            outcome = await self._run(self.cache.steps.reload(key, ttl), loader, key)
        except Exception:
            outcome = None  # counted as a failed load; the entry stays until it expires
        finally:
            self.cache.end_refresh(key, flight, outcome)

    async def _call(self, call: Callable[[], T]) -> T:
        if self._executor is None:
            return call()  # memory only: quicker than a change of thread
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    async def _run(self, steps: Steps[V], loader: AsyncLoader[V] | None, key: str) -> Outcome[V]:
        """Carry out the steps; their computing is small, their blocking calls go to threads."""
        answer: Any = None
        error: Exception | None = None
        try:
            while True:
                step = steps.send(answer) if error is None else steps.throw(error)
                answer, error = None, None
                try:
                    if isinstance(step, Do):
                        answer = await self._call(step.call)
                    elif isinstance(step, Pause):
                        await asyncio.sleep(step.seconds)
                    elif loader is not None:
                        answer = await loader(key)
                except Exception as caught:
                    error = caught
                except BaseException:
                    self._abandon(steps)
                    raise
        except StopIteration as end:
            outcome: Outcome[V] = end.value
            return outcome

    def _abandon(self, steps: Steps[V]) -> None:
        """The loop cancels us: let the load clean up (give its lease back) without waiting for it."""
        with contextlib.suppress(StopIteration, AbandonedError, RuntimeError):  # RuntimeError: the threads have ended
            step = steps.throw(AbandonedError())
            while True:
                if isinstance(step, Do):
                    call = step.call
                    self._executor.submit(call) if self._executor is not None else call()
                step = steps.send(None)
