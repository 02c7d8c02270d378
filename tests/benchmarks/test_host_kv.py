"""The quick forms of the host tier's benchmark: tiers and look-ahead help on a seeded trace, nothing reads wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import host_kv, kv_trace, results
from benchmarks.host_kv_random import Exercise

TRACE = kv_trace.synthetic(700)
CAPACITIES = (150, 400, 1000, 3000)


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_the_pool_is_no_worse_than_a_plain_lru(capacity: int) -> None:
    lru = kv_trace.plain_lru(TRACE, capacity)
    pool = kv_trace.replay(TRACE, capacity)
    ahead = kv_trace.replay(TRACE, capacity, queue=32)
    assert lru.blocks == pool.blocks == ahead.blocks
    assert pool.share >= lru.share
    assert ahead.share >= pool.share
    assert ahead.share <= kv_trace.unbounded(TRACE)


def test_a_known_queue_is_worth_six_percent() -> None:
    assert kv_trace.replay(TRACE, 400, queue=32).share >= 1.06 * kv_trace.plain_lru(TRACE, 400).share


def test_host_memory_doubles_the_hits() -> None:
    alone, tiered = kv_trace.replay(TRACE, 150), kv_trace.replay(TRACE, 150, host=600)
    assert tiered.host > 0
    assert tiered.share >= 2 * alone.share


@pytest.mark.parametrize("seed", [0, 1])
def test_random_operations_read_right_and_lose_no_byte(seed: int) -> None:
    report = Exercise(seed).run(6000)
    assert (report.wrong, report.fragmented) == (0, 0)
    assert report.loads > 300
    assert report.objects_read > 100
    assert report.evictions > 500
    assert report.moved_bytes > 0


@pytest.mark.slow
def test_a_million_random_operations() -> None:
    report = Exercise(7).run(10**6)
    assert (report.wrong, report.fragmented) == (0, 0)


def test_the_quick_run_writes_a_valid_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "host_kv.json"
    command = ["host_kv", "--quick", "--out", str(out), "--cache", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    assert host_kv.main() == 0
    first = results.read(out)
    subjects = {row.subject for row in first.rows if row.case.startswith("session")}
    assert subjects == {"computed", "host memory", "disk, restarted"}
    monkeypatch.setattr(sys, "argv", [*command, "--parts", "random"])
    assert host_kv.main() == 0
    assert {row.case for row in results.read(out).rows} == {row.case for row in first.rows}
