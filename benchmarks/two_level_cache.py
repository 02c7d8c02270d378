"""Hit rates and times of the two levels, beside one level and a cold start: ``python -m benchmarks.two_level_cache``.

One seeded workload goes on over an earlier run and the measured one: Zipf 0.99 over 10,000 keys whose ranks drift,
values of 1 KiB, one key in a thousand invalidated. All operations of Redis and of the caches are real and timed. A
load is not waited for: 92.9 ms are added to its request. Lives are longer than the run.

Subjects: ``two levels``, started warm (Redis as the earlier run left it, the first level from the warm-up file);
``two levels, Redis lost`` (the file alone); ``two levels, cold``; ``local only`` and ``Redis only``, warm alike.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from autoglm.cache.tiered import BytesCodec, SharedConfig, TieredCache, TieredConfig
from autoglm.cache.tiered.link import LinkState
from autoglm.cache.tiered.shared import SharedLevel
from autoglm.cache.tiered.warm import WarmUp
from benchmarks import results
from benchmarks.redis_server import RedisServer
from benchmarks.two_level_faults import measure
from benchmarks.two_level_workload import EARLY, MISS_SECONDS, Pass, Workload, play

OUT = Path(__file__).parent / "results" / "two_level_cache.json"
BASELINE = "local only"
ENTRIES = 1000


@contextmanager
def opened(url: str | None, *, entries: int = ENTRIES) -> Iterator[TieredCache[bytes]]:
    """A cache as a fresh process has it."""
    shared = None if url is None else SharedLevel(SharedConfig(url=url, operation_timeout=1.0))
    config = TieredConfig(name="bench", ttl=7200, refresh_at=1.0, max_entries=entries, immutable=True)
    cache = TieredCache(config, BytesCodec(), shared=shared)
    try:
        if shared is not None:
            while shared.link.state is not LinkState.UP:
                time.sleep(0.001)
        yield cache
    finally:
        cache.close()
        if shared is not None:
            shared.close()


def run(folder: Path, requests: int, seed: int) -> dict[str, Pass]:
    """Every subject's pass over the same requests."""
    file = folder / "warm"
    workload = Workload(seed)
    earlier, keys = workload.take(requests), workload.take(requests)
    passes: dict[str, Pass] = {}
    with RedisServer(folder) as server, server.client() as client:

        def measured(name: str, url: str | None, *, warm: bool, entries: int = ENTRIES) -> None:
            with opened(url, entries=entries) as cache:
                if warm:
                    WarmUp(file, {"bench": cache}).load()
                passes[name] = play(cache, keys)

        with opened(server.url) as cache:
            play(cache, earlier)
            WarmUp(file, {"bench": cache}).save()
        for key in client.scan_iter(count=1000):
            client.copy(key, key, destination_db=1)
        measured("two levels", server.url, warm=True)
        measured("Redis only", server.url.removesuffix("0") + "1", warm=False, entries=0)
        client.flushall()
        measured("two levels, Redis lost", server.url, warm=True)
        client.flushall()
        measured("two levels, cold", server.url, warm=False)
        measured("local only", None, warm=True)
    return passes


def rows_of(passes: dict[str, Pass], requests: int) -> list[results.Row]:
    """The result file's rows."""
    rows = []
    for name, done in passes.items():
        base = passes[BASELINE]
        figures = [
            ("hits, both levels", done.hits, base.hits, "share"),
            ("first level", done.local, None, "share"),
            ("Redis", done.shared, None, "share"),
            ("loader", done.loaded, None, "share"),
            (f"hits, first {EARLY:.0%} of requests", done.early_hits, base.early_hits, "share"),
            ("mean", done.mean * 1e3, base.mean * 1e3, "ms"),
            ("mean without loads", done.own_mean * 1e3, None, "ms"),
            ("CPU of the caller", done.cpu_mean * 1e3, None, "ms"),
            ("p99", done.p99 * 1e3, base.p99 * 1e3, "ms"),
        ]
        for metric, value, other, unit in figures:
            ratio = None if other is None or name == BASELINE else results.ratio(value, other, unit)
            rows.append(_row("zipf with drift", name, metric, value, unit, ratio, f"{requests} requests"))
    return rows


def fault_rows(found: dict[str, dict[str, list[float]]]) -> list[results.Row]:
    """Worst of all repetitions for the first operation, median for the rest."""
    rows = []
    for fault, samples in found.items():
        count = len(samples["first_ms"])
        for metric, key, unit in (
            ("first failing operation, worst", "first_ms", "ms"),
            ("extra per operation while the breaker is open", "extra_ms", "ms"),
            ("back in use after the fault ends", "back_s", "s"),
        ):
            values = samples[key]
            value = max(values) if key == "first_ms" else statistics.median(values)
            rows.append(_row(f"Redis {fault}", "two levels", metric, value, unit, None, "one key", count, min(values)))
    return rows


def _row(
    case: str,
    subject: str,
    metric: str,
    value: float,
    unit: str,
    ratio: float | None,
    size: str,
    repetitions: int = 1,
    best: float | None = None,
) -> results.Row:
    return results.Row(
        case=case,
        subject=subject,
        metric=metric,
        value=value,
        unit=unit,
        baseline=BASELINE,
        ratio=ratio,
        best=value if best is None else best,
        repetitions=repetitions,
        size=size,
        threads=1,
        precision="-",
    )


def command() -> None:
    """Run, print, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--repetitions", type=int, default=5, help="of each fault")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        passes = run(Path(folder), options.requests, options.seed)
        faults, failures = measure(Path(folder), options.repetitions)
    rows = rows_of(passes, options.requests) + fault_rows(faults)
    for row in rows:
        print(f"{row.case:30} {row.subject:24} {row.metric:48} {row.value:10.4f} {row.unit}")
    now = os.getloadavg()[0]
    results.write(
        results.Result(
            name="two_level_cache",
            date=results.now(),
            commit=results.commit(Path(__file__).parents[1]),
            machine=results.machine(),
            load=results.Load(start=load, end=now, highest=max(load, now)),
            versions={"redis-py": redis.__version__},
            settings={
                "requests": str(options.requests),
                "seed": str(options.seed),
                "first level": f"{ENTRIES} entries",
                "load": f"{MISS_SECONDS * 1e3:g} ms, added and not waited for",
            },
            rows=rows,
            failures=failures,
        ),
        options.out,
    )


if __name__ == "__main__":
    command()
