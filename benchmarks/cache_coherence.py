"""Do the first levels of three processes ever serve an old value? Under random writes, loads, killed connections,
flushes and expiry: ``python -m benchmarks.cache_coherence --checks 1000000``.

Rounds of a storm and a check. In the storm every process reads, loads, writes and removes keys, at last without more
trouble, so that there are copies to check. Its reads are timed against the last confirmed write: no value may be
outdated for longer than the lease. Then all is quiet, pushes are drained, and every value that either level serves must
be the truth: one check for each key, process and round. Keys that the storm removed are loaded again, so that the next
one finds all of them in Redis.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, fields
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from benchmarks import results
from benchmarks.coherence_worker import KEYS, LEASE, TIMES, Tally, Truth, main
from benchmarks.redis_server import RedisServer

OUT = Path(__file__).parent / "results" / "cache_coherence.json"
PROCESSES = 3
STORM_SECONDS = 0.35
CALM_SECONDS = 0.3
"""Reads and writes go on for so long after the last trouble: copies in the first level come from then."""


@dataclass(frozen=True, slots=True)
class Report:
    """The sum over all processes, and what was done to them."""

    total: Tally
    rounds: int
    kills: int
    flushes: int
    expiries: int
    seconds: float


class Trouble:
    """What the parent does to the server in a storm."""

    def __init__(self, client: Redis, rng: random.Random) -> None:
        self._client = client
        self._rng = rng
        self.kills = self.flushes = self.expiries = 0

    def storm(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(self._rng.uniform(0.01, 0.08))
            draw = self._rng.random()
            with suppress(RedisError):
                if draw < 0.45:
                    self._kill()
                elif draw < 0.9:
                    key = self._rng.randrange(KEYS)
                    self.expiries += bool(self._client.pexpire(f"autoglm:v:coherence:{key}", 1))
                else:
                    self._client.flushall()
                    self.flushes += 1

    def _kill(self) -> None:
        own = self._client.client_id()
        others = [c["id"] for c in self._client.client_list() if int(c["id"]) != own]
        for victim in self._rng.sample(others, min(len(others), self._rng.choice([1, 1, 2, 9]))):
            self.kills += int(self._client.execute_command("CLIENT", "KILL", "ID", victim))


def run(url: str, client: Redis, checks: int, seed: int = 1) -> Report:
    """Rounds until there were so many checks."""
    start = time.monotonic()
    context = multiprocessing.get_context("spawn")
    truth = Truth(
        context.Array("q", KEYS, lock=False),
        context.Array("q", KEYS, lock=False),
        context.Array("d", KEYS * TIMES, lock=False),
    )
    pipes: list[Connection] = []
    processes = []
    for number in range(PROCESSES):
        ours, theirs = context.Pipe()
        process = context.Process(target=main, args=(theirs, url, number, PROCESSES, seed, truth))
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    trouble = Trouble(client, random.Random(seed))
    rounds = 0
    try:
        tallies = _all(pipes, "settle")
        while sum(t.checks for t in tallies) < checks:
            for pipe in pipes:
                pipe.send(("storm", STORM_SECONDS + CALM_SECONDS))
            trouble.storm(STORM_SECONDS)
            for pipe in pipes:
                pipe.recv()
            for stage in ("settle", "drain", "check"):
                tallies = _all(pipes, stage)
            rounds += 1
        for pipe in pipes:
            pipe.send(("stop",))
    except (EOFError, BrokenPipeError) as error:
        raise RuntimeError("a process of the check has died") from error
    finally:
        for process in processes:
            process.join(10)
            if process.is_alive():
                process.kill()
        for pipe in pipes:
            pipe.close()
    seconds = time.monotonic() - start
    return Report(_sum(tallies), rounds, trouble.kills, trouble.flushes, trouble.expiries, seconds)


def _all(pipes: list[Connection], command: str) -> list[Tally]:
    for pipe in pipes:
        pipe.send((command,))
    return [pipe.recv() for pipe in pipes]


def _sum(tallies: list[Tally]) -> Tally:
    total: dict[str, Any] = {}
    for field in fields(Tally):
        values = [getattr(t, field.name) for t in tallies]
        total[field.name] = max(values) if field.name == "worst" else sum(values)
    return Tally(**total)


def rows_of(report: Report) -> list[results.Row]:
    """The result file's rows."""
    total = report.total
    values = [
        ("quiet", "checks", float(total.checks), "checks"),
        ("quiet", "served by the first level", total.local / max(total.checks, 1), "share"),
        ("quiet", "stale", float(total.stale), "stale"),
        ("storm", "reads", float(total.reads), "checks"),
        ("storm", "outdated when the read began", float(total.late), "stale"),
        ("storm", "outdated for longer than the lease", float(total.beyond), "stale"),
        ("storm", "longest outdated", total.worst, "s"),
        ("storm", "errors that reached a caller", float(total.errors), "stale"),
    ]
    return [
        results.Row(
            case=case,
            subject="autoglm",
            metric=metric,
            value=value,
            unit=unit,
            baseline="autoglm",
            ratio=None,
            best=value,
            repetitions=1,
            size="tiny values",
            threads=PROCESSES,
            precision="-",
        )
        for case, metric, value, unit in values
    ]


def command() -> None:
    """Run, print, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checks", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder)) as server, server.client() as client:
        version = str(client.info("server")["redis_version"])
        report = run(server.url, client, options.checks, options.seed)
    now = os.getloadavg()[0]
    print(report)
    results.write(
        results.Result(
            name="cache_coherence",
            date=results.now(),
            commit=results.commit(Path(__file__).parents[1]),
            machine=results.machine(),
            load=results.Load(start=load, end=now, highest=max(load, now)),
            versions={"redis-server": version},
            settings={
                "processes": str(PROCESSES),
                "keys": str(KEYS),
                "seed": str(options.seed),
                "lease": f"{LEASE:g} s",
                "storm": f"{STORM_SECONDS:g} s with trouble, {CALM_SECONDS:g} s without",
                "rounds": str(report.rounds),
                "connections killed": str(report.kills),
                "flushes": str(report.flushes),
                "expiries forced": str(report.expiries),
                "link losses": str(report.total.losses),
                "writes": str(report.total.writes),
                "seconds": f"{report.seconds:.0f}",
            },
            rows=rows_of(report),
            failures=[],
        ),
        options.out,
    )


if __name__ == "__main__":
    command()
