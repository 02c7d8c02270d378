"""The first level's benchmarks in their quick form: they run, and their numbers mean what they say."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from benchmarks import cache_policy, local_cache, results
from benchmarks.cache_traces import belady, synthetic
from benchmarks.local_subjects import SUBJECTS


@pytest.mark.parametrize("keys", [[1, 2, 3, 1, 2, 3, 1, 2], [1, 2, 1, 3, 1, 2, 4, 1, 1, 2], [1, 1, 1], [1, 2, 3]])
@pytest.mark.parametrize("entries", [0, 1, 2, 3])
def test_the_optimum_is_one(keys: list[int], entries: int) -> None:
    """Against trying every choice: after each request any ``entries`` of what is held and the request stay."""
    held: dict[frozenset[int], int] = {frozenset(): 0}
    for key in keys:
        after: dict[frozenset[int], int] = {}
        for content, hits in held.items():
            there = content | {key}
            for size in range(min(entries, len(there)) + 1):
                for kept in itertools.combinations(sorted(there), size):
                    now = frozenset(kept)
                    after[now] = max(after.get(now, 0), hits + (key in content))
        held = after
    assert belady(keys, entries) == max(held.values()) / len(keys)


def test_policy_on_the_synthetic_trace(tmp_path: Path) -> None:
    outcomes = cache_policy.replay_all([synthetic(30_000)], None)
    assert [outcome.shortfalls() for outcome in outcomes] == [[], [], []]
    for outcome in outcomes:
        assert 0 < outcome.adaptive < outcome.belady < 1
        assert outcome.adaptive > outcome.fixed["lru"] + 0.005
    result = cache_policy.as_result(outcomes, 0.0)
    results.write(result, tmp_path / "cache_policy.json")
    assert results.read(tmp_path / "cache_policy.json") == result
    cache_policy.draw(outcomes, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"


def test_a_missed_bar_is_named() -> None:
    outcome = cache_policy.Outcome("t", 0.1, 10, 0.5, 0.1, 0.9, {"lru": 0.52, "lfu": 0.3, "best": 0.55})
    assert len(outcome.shortfalls()) == 2


def test_the_synthetic_trace_is_fixed_by_its_seed() -> None:
    assert synthetic(2000).keys == synthetic(2000).keys
    assert synthetic(2000).keys != synthetic(2000, seed=8).keys


def test_speed_quick(tmp_path: Path) -> None:
    plan = local_cache.Plan(operations=2000, repetitions=2, memory_entries=5000)
    times = local_cache.measure(plan)
    rows = local_cache.time_rows(times)
    assert len(rows) == (len(SUBJECTS) + 4) * len(local_cache.CASES)
    fair = [row for row in rows if local_cache.WITH_TTL in row.case and row.subject != "cachebox VTTL"]
    assert {row.baseline for row in fair} == {"cachebox VTTL"}
    assert all(row.ratio is not None for row in fair)
    assert all(row.value > 0 for row in rows)
    assert local_cache.allocated_bytes(SUBJECTS[2], 1000) <= 72
    assert all(len(found) == 2 for found in times.values())
