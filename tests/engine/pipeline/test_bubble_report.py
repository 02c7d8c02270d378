"""What a serving pipeline reports of its bubble: of known intervals, and as it shows in the metrics."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.engine.pipeline.bubble import PassCounter, report_of
from autoglm.messages import Stats
from autoglm.parallel.pipeline.bubble import Interval, ideal_bubble
from autoglm.server.metrics import ServerMetrics


def equal_stages(stages: int, passes: list[int], pause: float) -> list[list[Interval]]:
    """Every stage takes a second for a micro-batch; ``pause`` seconds between passes."""
    found: list[list[Interval]] = [[] for _ in range(stages)]
    start = 0.0
    for size in passes:
        for stage, intervals in enumerate(found):
            intervals += [(start + stage + i, start + stage + i + 1) for i in range(size)]
        start += size + stages - 1 + pause
    return found


@given(
    stages=st.integers(2, 5), passes=st.lists(st.integers(1, 9), min_size=1, max_size=5), pause=st.floats(0.0, 100.0)
)
def test_equal_stages_give_the_formula_whatever_passes_between(stages: int, passes: list[int], pause: float) -> None:
    found = report_of(passes, equal_stages(stages, passes, pause))
    assert found is not None
    assert found.measured == pytest.approx(found.formula)
    assert found.micro_batches == pytest.approx(sum(passes) / len(passes))
    if len(set(passes)) == 1:
        assert found.formula == pytest.approx(ideal_bubble(stages, passes[0]))


def test_a_slow_stage_shows_above_the_formula() -> None:
    first = [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]
    second = [(1.0, 3.0), (3.0, 5.0), (5.0, 7.0)]
    found = report_of([3], [first, second])
    assert found is not None
    assert found.formula == pytest.approx(1 / 4)
    assert found.measured == pytest.approx(1 - 9 / 14)


def test_what_the_stages_no_longer_hold_is_left_out() -> None:
    whole = equal_stages(2, [2, 1, 3], 0.0)
    found = report_of([2, 1, 3], [stage[1:] for stage in whole])  # of the first pass one is gone
    assert found == report_of([1, 3], [stage[2:] for stage in whole])
    assert report_of([], [[], []]) is None
    assert report_of([2], [[], []]) is None


def test_passes_end_where_nothing_is_in_flight() -> None:
    counter = PassCounter(limit=6)
    for _ in range(2):
        counter.launched()
    for _ in range(2):
        counter.landed()
    counter.launched()
    assert counter.in_flight == 1
    assert counter.cut() == [2, 1]  # the second goes on
    counter.launched()
    for _ in range(2):
        counter.landed()
    assert counter.cut() == [1]
    for _ in range(4):
        for _ in range(3):
            counter.launched()
        for _ in range(3):
            counter.landed()
    assert counter.cut() == [3, 3]  # what no stage holds any more is not kept
    assert counter.cut() == []


def test_metrics_show_it_beside_the_formula() -> None:
    counts = dict.fromkeys(("waiting", "running", "steps", "preemptions", "prompt_tokens", "cached_tokens"), 0)
    sizes = dict.fromkeys(
        ("generated_tokens", "kv_blocks_total", "kv_blocks_free", "kv_block_tokens", "resident_bytes"), 0
    )
    stats = Stats(
        **counts,
        **sizes,
        caches=[],
        pipeline_stages=2,
        pipeline_micro_batches=3.5,
        pipeline_bubble=0.25,
        pipeline_bubble_formula=0.2,
    )
    metrics = ServerMetrics()
    metrics.observe(stats)
    text = metrics.render().decode()
    for name, value in (("stages", 2.0), ("micro_batches", 3.5), ("bubble", 0.25), ("bubble_formula", 0.2)):
        assert f'autoglm_engine{{name="pipeline_{name}"}} {value}\n' in text
