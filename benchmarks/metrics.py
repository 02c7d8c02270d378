"""From a subject's answers to rows: pure functions, no clock and no process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from benchmarks.results import UNITS_MORE_IS_BETTER, Row, ratio

Numbers = dict[tuple[str, str, str], float]
"""(case, metric, unit) to a number, of one repetition."""


def of_run(case: str, message: dict[str, Any]) -> Numbers:
    """The numbers of one repetition of a case, from the worker's answer."""
    answers = message["answers"]
    if case == "d":
        numbers = _batch(message, answers)
    elif case == "c":
        numbers = _dialogue(answers)
    else:
        numbers = _single(answers[0])
    numbers["total", "s"] = message["wall"]
    numbers["total, CPU", "CPU s"] = message["cpu"]
    return {(case, metric, unit): value for (metric, unit), value in numbers.items()}


def _single(answer: dict[str, Any]) -> dict[tuple[str, str], float]:
    (first_wall, first_cpu), (last_wall, last_cpu) = answer["marks"][0], answer["marks"][-1]
    after_first = len(answer["marks"]) - 1
    return {
        ("TTFT", "s"): first_wall,
        ("TTFT, CPU", "CPU s"): first_cpu,
        ("decode", "tok/s"): after_first / max(last_wall - first_wall, 1e-9),
        ("decode, CPU", "tok/CPU s"): after_first / max(last_cpu - first_cpu, 1e-9),
    }


def _dialogue(answers: Sequence[dict[str, Any]]) -> dict[tuple[str, str], float]:
    numbers: dict[tuple[str, str], float] = {}
    for step, answer in enumerate(answers, 1):
        wall, cpu = answer["marks"][0]
        numbers[f"TTFT step {step}", "s"] = wall
        numbers[f"TTFT step {step}, CPU", "CPU s"] = cpu
        numbers[f"prompt step {step}", "tokens"] = answer["prompt_tokens"]
        if answer["cached_tokens"] is not None:
            numbers[f"reused step {step}", "tokens"] = answer["cached_tokens"]
    later = [answer["marks"][0] for answer in answers[1:]]
    if later:
        numbers["TTFT later steps", "s"] = fmean(wall for wall, _ in later)
        numbers["TTFT later steps, CPU", "CPU s"] = fmean(cpu for _, cpu in later)
    return numbers


def _batch(message: dict[str, Any], answers: Sequence[dict[str, Any]]) -> dict[tuple[str, str], float]:
    tokens = sum(len(answer["tokens"]) for answer in answers)
    return {
        ("throughput", "tok/s"): tokens / message["wall"],
        ("throughput, CPU", "tok/CPU s"): tokens / message["cpu"],
        ("mean TTFT", "s"): fmean(answer["marks"][0][0] for answer in answers),
    }


def agreement(answers: Sequence[dict[str, Any]], reference: Sequence[dict[str, Any]]) -> float:
    """Share of the tokens before the first difference from the reference, over all requests."""
    same = total = 0
    for mine, other in zip(answers, reference, strict=True):
        pairs = list(zip(mine["tokens"], other["tokens"], strict=True))
        total += len(pairs)
        differs = (i for i, (a, b) in enumerate(pairs) if a != b)
        same += next(differs, len(pairs))
    return same / total


def rows(samples: Mapping[str, Iterable[Numbers]], *, baseline: str, size: str, threads: int) -> list[Row]:
    """Median and best over each subject's repetitions, with the ratio of the medians to the baseline's."""
    collected: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)
    for subject, repetitions in samples.items():
        for numbers in repetitions:
            for (case, metric, unit), value in numbers.items():
                collected[case, metric, unit, subject].append(value)
    result = []
    for (case, metric, unit, subject), values in collected.items():
        other = collected.get((case, metric, unit, baseline))
        compared = other is not None and subject != baseline and unit not in ("tokens", "share")
        result.append(
            Row(
                case=case,
                subject=subject,
                metric=metric,
                value=round(median(values), 4),
                unit=unit,
                baseline=baseline if other is not None else "",
                ratio=_rounded(ratio(median(values), median(other), unit)) if compared and other else None,
                best=round((max if UNITS_MORE_IS_BETTER[unit] else min)(values), 4),
                repetitions=len(values),
                size=size,
                threads=threads,
            )
        )
    return result


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
