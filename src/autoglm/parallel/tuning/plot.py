"""The curves of a profile as a picture. matplotlib is only imported here, when a picture is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autoglm.errors import InvalidInputError
from autoglm.parallel.tuning.profile import Profile
from autoglm.parallel.tuning.search import curve, turning_point


def draw(profile: Profile, file: Path) -> None:
    """Throughput by workers beside one worker's, a line a data size, the top of each marked.

    Raises:
        InvalidInputError: matplotlib is not installed, or does not write files of this kind.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InvalidInputError("--plot needs matplotlib: pip install autoglm[plot]", field="plot") from error
    figure = Figure(figsize=(9, 4), layout="constrained")
    sides = (("plain reduction", profile.reduction, "items"), (profile.model, profile.measured, profile.unit))
    for axes, (title, measured, unit) in zip(figure.subplots(1, 2), sides, strict=True):
        for size in dict.fromkeys(m.candidate.data_size for m in measured):
            _line(axes, curve(measured, size), f"size {size:,}")
        axes.axvline(profile.machine.cores, color="grey", linestyle=":", label="cores")
        axes.set_xscale("log", base=2)
        axes.set(title=title, xlabel="workers (threads x ranks)", ylabel=f"{unit}/s beside the fewest workers")
        axes.legend()
    try:
        figure.savefig(file)
    except ValueError as error:
        raise InvalidInputError(f"--plot: {error}", field="plot", value=str(file)) from error


def _line(axes: Any, points: dict[int, float], label: str) -> None:
    base = next(iter(points.values()))
    axes.plot(list(points), [rate / base for rate in points.values()], marker="o", label=label)
    top, _ = turning_point(points)
    axes.plot([top], [points[top] / base], marker="*", markersize=14, color="black")
