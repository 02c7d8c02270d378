"""From scores to the result file and to tables for people."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.table import Table

from benchmarks.agent_eval.episodes import EpisodeScore
from benchmarks.agent_eval.score import percentile, wilson
from benchmarks.agent_eval.steps import StepScore
from benchmarks.results import Load, Result, Row, commit, machine, now

STEP_GATE, TASK_GATE = 0.95, 0.85
Score = StepScore | EpisodeScore


@dataclass(frozen=True, slots=True)
class Sections:
    """Everything measured."""

    steps: list[StepScore]
    layouts: list[EpisodeScore]
    phrases: list[EpisodeScore]
    templates: list[EpisodeScore]
    eight: list[EpisodeScore]


def right(score: Score) -> bool:
    """A right step, or a task that was done."""
    return score.right if isinstance(score, StepScore) else score.success


def to_action(scores: Sequence[EpisodeScore]) -> list[float]:
    """Milliseconds from the start of the capture to the complete action, of every step."""
    return [waterfall.to_action for score in scores for waterfall in score.waterfalls]


def _family(score: Score) -> str:
    return score.family if isinstance(score, StepScore) else score.template.split(".")[0]


GROUPS: dict[str, Callable[[Score], str]] = {
    "language": lambda s: s.language,
    "theme": lambda s: s.theme,
    "task": _family,
}


def result_of(sections: Sections, model: str, root: Path) -> Result:
    """The result file."""
    rows = _shares("single steps, held-out layouts", sections.steps, "step accuracy")
    if sections.steps:
        share = fmean(s.same_think for s in sections.steps)
        rows.append(
            _row("single steps, held-out layouts", "thought as the expert's", share, "share", len(sections.steps))
        )
    parts = {
        "tasks, held-out layouts": sections.layouts,
        "tasks, held-out phrases": sections.phrases,
        "tasks, held-out templates": sections.templates,
        "tasks, eight phones at once": sections.eight,
    }
    for case, scores in parts.items():
        rows += _shares(case, scores, "task success")
        rows += _latency(case, scores)
    load = os.getloadavg()[0]
    return Result(
        name="agent_eval",
        date=now(),
        commit=commit(root),
        machine=machine(),
        load=Load(start=load, end=load, highest=load),
        versions={name: version(name) for name in ("autoglm", "torch")},
        settings={"model": model},
        rows=rows,
        failures=[],
    )


def _shares(case: str, scores: Sequence[Score], metric: str) -> list[Row]:
    """The share with its 95 % interval, in all and by group."""
    if not scores:
        return []
    groups: dict[str, list[Score]] = {case: list(scores)}
    for name, key in GROUPS.items():
        for score in scores:
            groups.setdefault(f"{case}, {name} {key(score)}", []).append(score)
    rows = []
    for label, members in groups.items():
        hits = sum(map(right, members))
        low, high = wilson(hits, len(members))
        rows.append(_row(label, metric, hits / len(members), "share", len(members)))
        rows.append(_row(label, f"{metric}, 95 % low", low, "share", len(members)))
        rows.append(_row(label, f"{metric}, 95 % high", high, "share", len(members)))
    return rows


def _latency(case: str, scores: Sequence[EpisodeScore]) -> list[Row]:
    times = to_action(scores)
    if not times:
        return []
    rows = [
        _row(case, f"screenshot to action, p{round(100 * share)}", percentile(times, share), "ms", len(times))
        for share in (0.5, 0.95)
    ]
    for part in ("capture", "encode", "prefill", "decode", "act"):
        values = [getattr(w, part) for s in scores for w in s.waterfalls]
        rows.append(_row(case, f"{part}, mean", fmean(values), "ms", len(values)))
    cached = sum(u.cached_tokens or 0 for s in scores for u in s.usages)
    total = sum(u.prompt_tokens or 0 for s in scores for u in s.usages)
    if total:
        rows.append(_row(case, "prompt tokens from cache", cached / total, "share", len(times)))
    return rows


def _row(case: str, metric: str, value: float, unit: str, count: int) -> Row:
    return Row(
        case=case,
        subject="autoglm",
        metric=metric,
        value=round(value, 5),
        unit=unit,
        baseline="none",
        ratio=None,
        best=round(value, 5),
        repetitions=count,
        size="mini",
        threads=os.cpu_count() or 1,
    )


def show(sections: Sections, console: Console, *, failures: bool) -> bool:
    """Print tables; whether the gate is met."""
    table = Table("what", "count", "right", "95 % interval", "p50 ms", "p95 ms")
    parts: dict[str, Sequence[Score]] = {
        "single steps, held-out layouts": sections.steps,
        "tasks, held-out layouts": sections.layouts,
        "tasks, held-out phrases": sections.phrases,
        "tasks, held-out templates": sections.templates,
        "tasks, eight phones at once": sections.eight,
    }
    for name, scores in parts.items():
        _add(table, name, scores)
    groups: dict[str, list[Score]] = defaultdict(list)
    for name, key in GROUPS.items():
        for score in sections.layouts:
            groups[f"  {name} {key(score)}"].append(score)
    table.add_section()
    for name, members in sorted(groups.items()):
        _add(table, name, members)
    console.print(table)
    if failures:
        for missed in (score for scores in parts.values() for score in scores if not right(score)):
            console.print(str(missed), markup=False, soft_wrap=True)
    met = [
        fmean(map(right, part)) >= gate
        for part, gate in ((sections.steps, STEP_GATE), (sections.layouts, TASK_GATE))
        if part
    ]
    return all(met)


def _add(table: Table, name: str, scores: Sequence[Score]) -> None:
    if not scores:
        return
    hits = sum(map(right, scores))
    low, high = wilson(hits, len(scores))
    times = to_action([s for s in scores if isinstance(s, EpisodeScore)])
    speed = [f"{percentile(times, share):.0f}" for share in (0.5, 0.95)] if times else ["", ""]
    table.add_row(name, str(len(scores)), f"{hits / len(scores):.1%}", f"{low:.1%} – {high:.1%}", *speed)
