"""Rows from answers: hand-made times, exact results."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import metrics
from benchmarks.results import ratio


def answer(tokens: list[int], marks: list[tuple[float, float]], cached: int | None = None) -> dict[str, Any]:
    return {"tokens": tokens, "marks": marks, "prompt_tokens": 10, "cached_tokens": cached}


def message(*answers: dict[str, Any], wall: float = 4.0, cpu: float = 8.0) -> dict[str, Any]:
    return {"wall": wall, "cpu": cpu, "answers": list(answers)}


def test_one_request() -> None:
    numbers = metrics.of_run("a", message(answer([1, 2, 3], [(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)])))
    assert numbers["a", "TTFT", "s"] == 1.0
    assert numbers["a", "TTFT, CPU", "CPU s"] == 2.0
    assert numbers["a", "decode", "tok/s"] == pytest.approx(1.0)
    assert numbers["a", "decode, CPU", "tok/CPU s"] == pytest.approx(0.5)
    assert numbers["a", "total", "s"] == 4.0


def test_dialogue_without_word_of_reuse_has_no_reuse_row() -> None:
    steps = [answer([1], [(float(t), float(t))], cached) for t, cached in ((3, 0), (1, 7), (2, None))]
    numbers = metrics.of_run("c", message(*steps))
    assert numbers["c", "TTFT later steps", "s"] == 1.5
    assert numbers["c", "reused step 2", "tokens"] == 7
    assert ("c", "reused step 3", "tokens") not in numbers


def test_requests_at_once() -> None:
    numbers = metrics.of_run("d", message(answer([1, 2], [(1, 1), (2, 2)]), answer([1, 2], [(3, 3), (4, 4)])))
    assert numbers["d", "throughput", "tok/s"] == 1.0
    assert numbers["d", "throughput, CPU", "tok/CPU s"] == 0.5
    assert numbers["d", "mean TTFT", "s"] == 2.0


def test_agreement_ends_at_the_first_difference() -> None:
    mine, other = answer([1, 2, 9, 4], []), answer([1, 2, 3, 4], [])
    assert metrics.agreement([mine], [other]) == 0.5
    assert metrics.agreement([other], [other]) == 1.0


def test_rows_take_the_median_the_better_best_and_the_ratio_of_medians() -> None:
    seconds, rate = ("a", "TTFT", "s"), ("a", "decode", "tok/s")
    samples = {
        "fast": [{seconds: v, rate: v} for v in (1.0, 2.0, 9.0)],
        "base": [{seconds: v, rate: v} for v in (4.0, 4.0, 4.0)],
    }
    found = {(r.subject, r.metric): r for r in metrics.rows(samples, baseline="base", size="tiny", threads=1)}
    fast, fast_rate = found["fast", "TTFT"], found["fast", "decode"]
    assert (fast.value, fast.best, fast.ratio, fast.repetitions) == (2.0, 1.0, 2.0, 3)
    assert (fast_rate.value, fast_rate.best, fast_rate.ratio) == (2.0, 9.0, 0.5)
    assert found["base", "TTFT"].ratio is None


def test_ratio_is_above_one_when_better_and_empty_for_zero() -> None:
    assert ratio(1.0, 2.0, "s") == 2.0
    assert ratio(2.0, 1.0, "tok/s") == 2.0
    assert ratio(0.0, 1.0, "s") is None
