"""Three processes, random kills of connections, flushes and expiry: nobody serves an old value."""

from __future__ import annotations

import pytest

from benchmarks.cache_coherence import Report, rows_of, run
from benchmarks.coherence_worker import Tally
from benchmarks.redis_server import RedisServer


def assert_coherent(report: Report, checks: int) -> None:
    total = report.total
    assert total.checks >= checks
    assert total.stale == 0
    assert total.beyond == 0, f"a value was outdated for {total.worst:g} s"
    assert total.errors == 0
    # It would prove nothing if there had been no trouble, or if copies had not been used.
    assert min(report.kills, report.expiries, total.losses, total.writes) > 0
    assert total.local > total.checks / 10


def test_no_stale_value(redis: RedisServer) -> None:
    with redis.client() as client:
        assert_coherent(run(redis.url, client, 8_000, seed=1), 8_000)


@pytest.mark.slow
def test_no_stale_value_in_a_million_checks(redis: RedisServer) -> None:
    with redis.client() as client:
        assert_coherent(run(redis.url, client, 1_000_000, seed=2), 1_000_000)


def test_the_check_can_fail() -> None:
    """An outdated value makes it fail."""
    good = Report(Tally(checks=10, local=9, losses=1, writes=1), rounds=1, kills=1, flushes=1, expiries=1, seconds=1.0)
    assert_coherent(good, 10)
    assert len(rows_of(good)) == 8
    good.total.stale = 1
    with pytest.raises(AssertionError):
        assert_coherent(good, 10)
