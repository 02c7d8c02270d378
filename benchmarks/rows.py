"""Rows and result files of the smaller benchmarks, and the tables of pages made from them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch

from benchmarks import results
from benchmarks.results import Failure, Load, Result, Row

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def row(
    case: str,
    subject: str,
    metric: str,
    values: Sequence[float],
    unit: str,
    *,
    baseline: str = "",
    against: Sequence[float] | None = None,
    size: str = "",
    precision: str = "f32",
) -> Row:
    """A row of repetitions: their median, their best. ``against``: the baseline's; the ratio is of the medians."""
    better: Callable[[Sequence[float]], float] = max if results.UNITS_MORE_IS_BETTER[unit] else min
    value = median(values)
    ratio = None if against is None else results.ratio(value, median(against), unit)
    return Row(
        case=case,
        subject=subject,
        metric=metric,
        value=float(f"{value:.6g}"),
        unit=unit,
        baseline=baseline,
        ratio=None if ratio is None else round(ratio, 3),
        best=float(f"{better(values):.6g}"),
        repetitions=len(values),
        size=size,
        threads=1,
        precision=precision,
    )


def finished(
    name: str, rows: list[Row], settings: dict[str, str], load_at_start: float, failures: Sequence[Failure] = ()
) -> Result:
    """The whole run."""
    end = os.getloadavg()[0]
    return Result(
        name=name,
        date=results.now(),
        commit=results.commit(ROOT),
        machine=results.machine(),
        load=Load(start=load_at_start, end=end, highest=max(load_at_start, end)),
        versions={"torch": str(torch.__version__)},
        settings=settings,
        rows=rows,
        failures=list(failures),
    )


def table(result: Result, cases: Sequence[str] | None = None) -> str:
    """One line a row, in the order measured."""
    lines = ["| case | subject | metric | median | best | times the baseline |", "|---|---|---|---:|---:|---:|"]
    for r in result.rows:
        if cases is not None and r.case not in cases:
            continue
        ratio = "" if r.ratio is None else f"{r.ratio:.2f} × {r.baseline}"
        name = f"{r.case}, {r.size}" if r.size else r.case
        lines.append(
            f"| {name} | {r.subject} | {r.metric} | {_number(r.value)} {r.unit} | {_number(r.best)} | {ratio} |"
        )
    return "\n".join(lines) + f"\n\n{about(result)}"


def about(result: Result) -> str:
    """When and where."""
    m, load = result.machine, result.load
    return (
        f"{result.date}, commit {result.commit}, {m.cpu}, {m.cores} cores. Load average {load.start:.1f} at the start, "
        f"{load.highest:.1f} at most."
    )


def with_section(page: str, name: str, new: str) -> str:
    """``page`` with what is between ``<!-- NAME:start -->`` and ``<!-- NAME:end -->`` replaced.

    Raises :class:`ValueError` if the markers are not there once.
    """
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    if page.count(start) != 1 or page.count(end) != 1 or page.index(start) > page.index(end):
        raise ValueError(f"the page must hold {start} and, after it, {end}, once each")
    head, rest = page.split(start)
    return f"{head}{start}\n{new}\n{end}{rest.split(end)[1]}"


def write_section(page: Path, name: str, new: str) -> None:
    """:func:`with_section` of a file."""
    page.write_text(with_section(page.read_text(encoding="utf-8"), name, new), encoding="utf-8")


def add_table_option(parser: argparse.ArgumentParser) -> None:
    """For :func:`wrote_table`; the parser has ``--out``, too."""
    parser.add_argument("--table", type=Path, help="write the table of --out into this page, measure nothing")


def wrote_table(options: argparse.Namespace, section: str, made: Callable[[Result], str] = table) -> bool:
    """Whether a table is all that was asked for; then it is written, from the result file."""
    if options.table is None:
        return False
    write_section(options.table, section, made(results.read(options.out)))
    return True


def _number(value: float) -> str:
    if value == 0 or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
