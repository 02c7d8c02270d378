"""What a failing store costs: the first operation that meets it, those after it, and the way back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from redis import Redis

from autoglm.cache.tiered import BytesCodec, SharedConfig, TieredCache, TieredConfig
from autoglm.cache.tiered.link import LinkState
from autoglm.cache.tiered.shared import SharedLevel
from benchmarks import results
from benchmarks.redis_server import Proxy, RedisServer

OPEN_OPERATIONS = 300
_PATIENCE = 30.0
FAULTS = ("killed", "silent", "two seconds of latency", "password changed", "memory full")
Fault = tuple[Callable[[], None], Callable[[], None]]


def measure(folder: Path, repetitions: int) -> tuple[dict[str, dict[str, list[float]]], list[results.Failure]]:
    """Fault to figure to samples: ``first_ms``, ``extra_ms`` (median of many, over a cache alone) and ``back_s``.

    A sample whose store was away before the fault began (a machine too busy for the time limit) is not counted, and
    named among the failures.
    """
    found: dict[str, dict[str, list[float]]] = {}
    failures: list[results.Failure] = []
    for name in FAULTS:
        samples: dict[str, list[float]] = {"first_ms": [], "extra_ms": [], "back_s": []}
        for index in range(repetitions):
            place = folder / f"{name.replace(' ', '-')}-{index}"
            place.mkdir()
            try:
                with _scene(place, name) as (url, (begin, end)):
                    for key, value in _one(url, begin, end).items():
                        samples[key].append(value)
            except (BusyError, TimeoutError) as error:
                case = f"{name}, sample {index}"
                failures.append(
                    results.Failure(subject="two levels", size="one key", threads=1, case=case, reason=str(error))
                )
        if samples["first_ms"]:
            found[name] = samples
    return found, failures


class BusyError(Exception):
    """The machine is too busy to measure this."""


@contextmanager
def _scene(folder: Path, name: str) -> Iterator[tuple[str, Fault]]:
    with RedisServer(folder) as server, Proxy(server.port) as proxy:

        def hang() -> None:
            if name == "silent":
                proxy.silent = True
            else:
                proxy.delay = 2.0

        def heal() -> None:
            proxy.silent, proxy.delay = False, 0.0
            proxy.cut()

        def refuse() -> None:
            with server.client() as client:
                client.config_set("requirepass", "another")
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

        def admit() -> None:
            with Redis(port=server.port, password="another") as client:
                client.config_set("requirepass", "")

        def fill() -> None:
            with server.client() as client:
                client.config_set("maxmemory", 1)

        def empty() -> None:
            with server.client() as client:
                client.config_set("maxmemory", 0)

        if name == "killed":
            yield server.url, (server.kill, server.start)
        elif name == "password changed":
            yield server.url, (refuse, admit)
        elif name == "memory full":
            yield server.url, (fill, empty)
        else:
            yield proxy.url, (hang, heal)


def _one(url: str, begin: Callable[[], None], end: Callable[[], None]) -> dict[str, float]:
    with SharedLevel(SharedConfig(url=url)) as shared:
        cache = TieredCache(TieredConfig(name="faults", jitter=0), BytesCodec(), shared=shared)
        alone = TieredCache(TieredConfig(name="alone", jitter=0), BytesCodec())
        for index in range(50):
            cache.get_or_load(f"before {index}", lambda _: b"x")
        _wait(lambda: shared.link.state is LinkState.UP and shared.breaker.closed)
        begin()
        if not shared.breaker.closed:
            raise BusyError("the store was away before the fault began")
        first = _timed(lambda: cache.get_or_load("first", lambda _: b"x"))
        extra = _median_load(cache) - _median_load(alone)
        start = time.perf_counter()
        end()
        _wait(lambda: shared.breaker.closed and shared.link.state is LinkState.UP)
        return {"first_ms": first * 1e3, "extra_ms": max(extra, 0.0) * 1e3, "back_s": time.perf_counter() - start}


def _median_load(cache: TieredCache[bytes]) -> float:
    times = sorted(_timed(partial(cache.get_or_load, f"open {i}", lambda _: b"x")) for i in range(OPEN_OPERATIONS))
    return times[len(times) // 2]


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the store did not come back")
        time.sleep(0.001)
