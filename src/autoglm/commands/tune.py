"""``autoglm tune``: find out how a checkpoint runs fastest on this machine, and where more workers hurt."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from autoglm.engine import EngineConfig
from autoglm.engine.trial import Load, run_trial
from autoglm.errors import InvalidInputError
from autoglm.model.resolve import PACKAGED, resolve_checkpoint
from autoglm.parallel.tuning.candidates import Candidate, grid, powers_up_to
from autoglm.parallel.tuning.plot import draw
from autoglm.parallel.tuning.profile import Machine, Profile, write_profile
from autoglm.parallel.tuning.reduction import ITEMS, reduction_rate
from autoglm.parallel.tuning.search import Measured, Search, curve, ranked, search, turning_point

PROFILE = Path("autoglm-profile.json")
_REDUCTION_SHARE = 0.1
_FIELDS = {
    "threads": "threads",
    "tensor_parallel": "tensor_parallel_size",
    "pipeline_parallel": "pipeline_parallel_size",
    "micro_batches": "micro_batches",
}
"""Axes and the engine options they set; an axis whose option this engine does not have stays at 1."""
_BAR_WIDTH = 40


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of the subcommand."""
    parser = commands.add_parser("tune", help="measure threads, ranks, stages and batch sizes; write a profile")
    parser.add_argument("model", nargs="?", default=PACKAGED, help=f"as for serve (default: the packaged {PACKAGED})")
    parser.add_argument("--seconds", type=float, default=120.0, help="time budget (default: 120)")
    parser.add_argument("--out", type=Path, default=PROFILE, help=f"the profile (default: {PROFILE})")
    parser.add_argument("--plot", type=Path, help="draw the curves into this file (svg, png, pdf); needs matplotlib")
    cores = len(os.sched_getaffinity(0))
    add = parser.add_argument_group("what is measured").add_argument
    add("--threads", type=int, nargs="+", default=powers_up_to(cores), help="a rank (default: up to twice the cores)")
    add("--tensor-parallel", type=int, nargs="+", default=[1, 2], help="ranks that share every layer (default: 1 2)")
    add("--pipeline-parallel", type=int, nargs="+", default=[1, 2], help="stages (default: 1 2)")
    add("--micro-batches", type=int, nargs="+", default=[1, 2, 4], help="with more than one stage (default: 1 2 4)")
    add("--requests", type=int, nargs="+", default=[1, 4], help="at once: the size of the data (default: 1 4)")
    add("--prompt-tokens", type=int, default=256)
    add("--new-tokens", type=int, default=16)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, show, write; status 1 if the model could not be run in any way."""
    if options.seconds <= 0:
        raise InvalidInputError("--seconds must be positive", field="seconds", value=options.seconds)
    console = Console()
    checkpoint = resolve_checkpoint(options.model)
    plain = _plain_reduction(options, console)
    found = _model(options, checkpoint, console)
    for candidate, reason in found.failed.items():
        console.print(f"[red]could not run[/] {_words(candidate)}: {reason}", soft_wrap=True)
    order = ranked(found.measured())
    if not order:
        return 1
    best, speedup = order[0]
    engine = dict(zip((_FIELDS[name] for name in _FIELDS), best, strict=True))
    profile = Profile(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=Machine.here(),
        model=checkpoint.name,
        unit="tokens",
        engine={name: value for name, value in engine.items() if name in _known()},
        speedup=round(speedup, 3),
        measured=tuple(found.measured()),
        reduction=tuple(plain),
        left_out=len(found.left_out),
    )
    write_profile(profile, options.out)
    _show(profile, console)
    if options.plot is not None:
        draw(profile, options.plot)
        console.print(f"curves in {options.plot}")
    console.print(f"profile in {options.out}; use it with: autoglm serve --profile {options.out}")
    return 0


def _plain_reduction(options: argparse.Namespace, console: Console) -> list[Measured]:
    candidates = grid(threads=options.threads, data_sizes=[ITEMS // 100, ITEMS], most_workers=max(options.threads))
    return _with_bar(
        "plain reduction", candidates, reduction_rate, options.seconds * _REDUCTION_SHARE, console
    ).measured()


def _model(options: argparse.Namespace, checkpoint: Path, console: Console) -> Search:
    known = _known()
    axes = {name: getattr(options, name) if option in known else [1] for name, option in _FIELDS.items()}
    candidates = grid(**axes, data_sizes=options.requests, most_workers=max(options.threads))

    def measure(candidate: Candidate) -> float:
        load = Load(requests=candidate.data_size, prompt_tokens=options.prompt_tokens, new_tokens=options.new_tokens)
        values = {option: getattr(candidate, name) for name, option in _FIELDS.items() if option in known}
        return run_trial(checkpoint, EngineConfig(**values), load, options.seconds).rate

    return _with_bar(checkpoint.name, candidates, measure, options.seconds * (1 - _REDUCTION_SHARE), console)


def _known() -> set[str]:
    return {field.name for field in msgspec.structs.fields(EngineConfig)}


def _with_bar(
    name: str, candidates: list[Candidate], measure: Callable[[Candidate], float], seconds: float, console: Console
) -> Search:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[what]}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(name, total=1.0, what="")

        def report(candidate: Candidate | None, share: float) -> None:
            progress.update(task, completed=share, what=_words(candidate) if candidate else "done")

        return search(candidates, measure, seconds, report)


def _words(c: Candidate) -> str:
    parts = [f"{c.threads} thread{'s' if c.threads > 1 else ''}"]
    if c.tensor_parallel > 1:
        parts.append(f"tensor parallel {c.tensor_parallel}")
    if c.pipeline_parallel > 1:
        parts.append(f"{c.pipeline_parallel} stages, {c.micro_batches} micro-batches")
    return ", ".join([*parts, f"size {c.data_size}"])


def _show(profile: Profile, console: Console) -> None:
    for title, measured, unit in (
        ("plain reduction", profile.reduction, "items/s"),
        (profile.model, profile.measured, f"{profile.unit}/s"),
    ):
        for size in dict.fromkeys(m.candidate.data_size for m in measured):
            _show_curve(f"{title}, size {size}", curve(measured, size), unit, console)
    table = Table("engine option", "value", title=f"fastest: {profile.speedup:.2f} times one thread in one process")
    for name, value in profile.engine.items():
        table.add_row(name, str(value))
    console.print(table)
    if profile.left_out:
        console.print(f"{profile.left_out} candidates were left out: raise --seconds to measure them")


def _show_curve(title: str, points: dict[int, float], unit: str, console: Console) -> None:
    if not points:
        return
    top, hurts = turning_point(points)
    table = Table("workers", unit, "", title=title, title_justify="left")
    for workers, rate in points.items():
        bar = "█" * max(1, round(_BAR_WIDTH * rate / points[top]))
        table.add_row(str(workers), f"{rate:,.0f}", f"[green]{bar}[/]" if workers == top else bar)
    console.print(table)
    if hurts is None:
        console.print(f"fastest with {top} workers; no slower with more, as far as measured")
    else:
        console.print(f"fastest with {top} workers; from {hurts} on, more workers hurt")
