"""The loop of every stage: progress bar, curve, checkpoints, resuming, and an orderly end on a signal."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn

from training.data import Screens
from training.optimiser import Optimiser, schedule
from training.team import Team

Step = Callable[[Screens], tuple[torch.Tensor, dict[str, float]]]
"""``step(batch) -> (loss, figures)``"""
Check = Callable[[], dict[str, float]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a stage runs, and where it keeps its state.

    Attributes:
        minutes: the learning rate follows the time spent, so a stage ends well whatever the machine's speed.
        check_every: seconds between validations. check_batches: of validation samples.
        fresh: forget an earlier, unfinished run.
    """

    name: str
    directory: Path
    minutes: float
    rate: float
    check_every: float = 360.0
    check_batches: int = 8
    fresh: bool = False

    @property
    def state_file(self) -> Path:
        return self.directory / f"{self.name}.pt"

    @property
    def curve_file(self) -> Path:
        return self.directory / f"{self.name}.jsonl"


def train(
    plan: Plan,
    model: nn.Module,
    named: list[tuple[str, nn.Parameter]],
    batches: Iterator[Screens],
    step: Step,
    check: Check,
) -> bool:
    """Run or resume a stage; whether it came to its end (a signal stops it early, with its state saved)."""
    plan.directory.mkdir(parents=True, exist_ok=True)
    optimiser, team = Optimiser(named, plan.rate), Team()
    spent, steps, samples = _resume(plan, model, optimiser, team)
    stopping: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        stopping.append(number)

    before = [signal.signal(s, on_signal) for s in (signal.SIGTERM, signal.SIGINT)]
    last, checked, shown, stop = time.monotonic(), spent, 0.0, False
    figures: dict[str, float] = {}
    try:
        with _bar() as bar:
            task = bar.add_task(plan.name, total=plan.minutes * 60, note="")
            while spent < plan.minutes * 60 and not stop:
                batch = next(batches)
                loss, found = step(batch)
                loss.backward()  # type: ignore[no-untyped-call]
                stop, spent = team.share(optimiser.parameters, bool(stopping), spent)
                optimiser.step(schedule(steps, spent / (plan.minutes * 60)))
                steps += 1
                samples += team.size * len(batch.kinds)
                for name, value in found.items():
                    figures[name] = value if name not in figures else 0.95 * figures[name] + 0.05 * value
                now = time.monotonic()
                spent, last = spent + min(now - last, 30.0), now  # a paused machine is no time spent
                note = f"{samples / 1000:.1f}k " + " ".join(f"{k} {v:.3f}" for k, v in figures.items())
                bar.update(task, completed=spent, note=note)
                if not team.leads:
                    continue
                if spent - shown > 20:
                    shown = spent
                    _write(plan, {"seconds": spent, "steps": steps, "samples": samples, **figures})
                if spent - checked > plan.check_every:
                    checked = spent
                    _write(plan, {"seconds": spent, "steps": steps, "samples": samples, **_checked(model, check)})
                    _save(plan, model, optimiser, spent, steps, samples)
                    last = time.monotonic()
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(number, handler)
    if team.leads:
        _save(plan, model, optimiser, spent, steps, samples)  # first: who stops us may not wait for the figures
        _write(plan, {"seconds": spent, "steps": steps, "samples": samples, **_checked(model, check)})
    team.wait()
    return not stop


def _checked(model: nn.Module, check: Check) -> dict[str, float]:
    model.eval()
    try:
        with torch.inference_mode():
            return check()
    finally:
        model.train()


def _resume(plan: Plan, model: nn.Module, optimiser: Optimiser, team: Team) -> tuple[float, int, int]:
    if plan.fresh or not plan.state_file.exists():
        if team.leads:
            plan.curve_file.unlink(missing_ok=True)
        return 0.0, 0, 0
    state = torch.load(plan.state_file, weights_only=True)
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    return state["spent"], state["steps"], state["samples"]


def _save(plan: Plan, model: nn.Module, optimiser: Optimiser, spent: float, steps: int, samples: int) -> None:
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "spent": spent,
        "steps": steps,
        "samples": samples,
    }
    partial = plan.state_file.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(plan.state_file)


def _write(plan: Plan, row: dict[str, float]) -> None:
    with plan.curve_file.open("a", encoding="utf-8") as file:
        file.write(json.dumps({k: round(v, 5) for k, v in row.items()}) + "\n")


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
