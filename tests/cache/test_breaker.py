"""The breaker in front of Redis: its states, and when a caller may try."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.cache.breaker import Breaker


def test_breaker_transitions() -> None:
    breaker = Breaker()
    assert breaker.trip()
    assert not breaker.trip()
    with pytest.raises(RuntimeError, match="from open to closed"):
        breaker.end_probe(well=True)
    breaker.probe()
    assert breaker.state.value == "half_open"
    breaker.end_probe(well=False)
    assert breaker.state.value == "open"
    breaker.probe()
    breaker.end_probe(well=True)
    assert breaker.closed
    with pytest.raises(RuntimeError, match="from closed to half_open"):
        breaker.probe()
    assert breaker.opened == 1


@given(st.lists(st.tuples(st.floats(0, 40), st.booleans()), max_size=60))
def test_one_caller_probes_after_each_pause(tries: list[tuple[float, bool]]) -> None:
    """Against the plain rule: after a failure nothing for a second, doubled with each failed probe up to thirty."""
    now = 100.0
    breaker = Breaker(1.0, 30.0, lambda: now)
    pause, free_at = 1.0, now
    for seconds, well in tries:
        now += seconds
        may = now >= free_at
        assert breaker.passable is may
        assert breaker.admit() is may
        if not may:
            continue
        if not breaker.closed:
            assert not breaker.passable, "one at a time"
            assert not breaker.admit()
        before = breaker.closed
        breaker.settle(well=well)
        assert breaker.closed is well
        if not well:
            pause = 1.0 if before else min(2 * pause, 30.0)
            free_at = now + pause
