"""``python -m benchmarks.phone_world``: how often the expert does its tasks, in how many steps, and what data costs.

Beside the expert stands a policy that finishes at once: what it gets is what needs no acting. Times are CPU
milliseconds of one thread. Writes ``benchmarks/results/phone_world.json``.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import fmean

from autoglm.agent.actions import Action, Finish
from autoglm.agent.devices.simulated import SimulatedPhone
from autoglm.agent.tasks.base import Task
from autoglm.agent.tasks.episodes import Episode, Policy, oracle_policy, run_episode
from autoglm.agent.tasks.scenes import scene
from autoglm.agent.tasks.splits import SPLITS
from autoglm.agent.tasks.starts import new_start
from benchmarks.results import Load, Result, Row, commit, machine, now, write

ROOT = Path(__file__).parents[1]
OUT = ROOT / "benchmarks" / "results" / "phone_world.json"
SIZE = "320x704 to 412x915"


def main() -> int:
    """Status 0 when the expert does at least 99.5 % of all tasks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.phone_world", description=__doc__)
    parser.add_argument("--episodes", type=int, default=400, help="of each split")
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    rows, done = [], []
    for split in SPLITS:
        expert = _episodes(split, options.episodes, oracle_policy)
        idle = _episodes(split, options.episodes, lambda _: _finish_at_once)
        done += [episode.success for episode in expert]
        rows += _split_rows(split, expert, idle)
    rows += _cost_rows(options.scenes)
    end = os.getloadavg()[0]
    versions = {"pillow": version("pillow")}
    settings = {"episodes a split": str(options.episodes), "scenes": str(options.scenes), "samples a scene": "8"}
    loads = Load(start=load, end=end, highest=max(load, end))
    result = Result(
        name="phone_world",
        date=now(),
        commit=commit(ROOT),
        machine=machine(),
        load=loads,
        versions=versions,
        settings=settings,
        rows=rows,
        failures=[],
    )
    write(result, options.out)
    for row in rows:
        print(f"{row.case:20} {row.subject:16} {row.metric:24} {row.value:8.3f} {row.unit}")
    print(f"wrote {options.out}")
    return 0 if fmean(done) >= 0.995 else 1


def _finish_at_once(_instruction: str, _phone: SimulatedPhone, _app: str, _last: str) -> tuple[str, Action]:
    return "", Finish("done")


def _episodes(split: str, count: int, policy: Callable[[Task], Policy]) -> list[Episode]:
    """The same tasks for every policy."""
    rng = random.Random(f"phone_world {split}")
    starts = (new_start(rng, SPLITS[split]) for _ in range(count))
    return [run_episode(task, phone, policy(task)) for task, phone in starts]


def _split_rows(split: str, expert: list[Episode], idle: list[Episode]) -> list[Row]:
    share, base = fmean(e.success for e in expert), fmean(e.success for e in idle)
    steps = [len(e.steps) for e in expert]
    return [
        _row(split, "expert", "tasks done", share, "share", len(expert), share / base if base else None),
        _row(split, "finish at once", "tasks done", base, "share", len(idle), None),
        _row(split, "expert", "mean steps", fmean(steps), "steps", len(steps), None, best=min(steps)),
    ]


def _cost_rows(count: int) -> list[Row]:
    rng = random.Random("phone_world scenes")
    made, drawn, phones = [], [], []
    for _ in range(count):
        start = time.process_time()
        one = scene(rng, "train", 8)
        made.append((time.process_time() - start) * 1000 / 8)
        phones.append(one.phone)
    for phone in phones:
        start = time.process_time()
        phone.render()
        drawn.append((time.process_time() - start) * 1000)
    return [
        _row("training data", "scenes", "one labelled sample", fmean(made), "ms", count, None, best=min(made)),
        _row("training data", "renderer", "one screen", fmean(drawn), "ms", count, None, best=min(drawn)),
    ]


def _row(
    case: str,
    subject: str,
    metric: str,
    value: float,
    unit: str,
    count: int,
    ratio: float | None,
    *,
    best: float | None = None,
) -> Row:
    """``value`` is a mean here; costs are of one thread."""
    return Row(
        case=case,
        subject=subject,
        metric=metric,
        value=round(value, 4),
        unit=unit,
        baseline="finish at once",
        ratio=None if ratio is None else round(ratio, 2),
        best=round(value if best is None else best, 4),
        repetitions=count,
        size=SIZE,
        threads=1,
        precision="uint8",
    )


if __name__ == "__main__":
    raise SystemExit(main())
