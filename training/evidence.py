"""Where on the screen the reason for a step stands: what the reading head is taught to look at before it speaks."""

from __future__ import annotations

from autoglm.agent.actions import Back, Finish, Swipe
from autoglm.agent.devices.simulated import Element
from autoglm.agent.devices.simulated.catalog import label
from autoglm.agent.tasks.scenes import Sample
from training.shape import COLUMNS, ROWS

_ENDS = ("scrollbar", "dots")
"""What shows that there is more, or no more, to look at."""


def evidence(sample: Sample, elements: tuple[Element, ...], size: tuple[int, int]) -> int | None:
    """The cell to look at: what is tapped; else what the thought names; else what says that it is not here."""
    if sample.target_cell is not None:
        return sample.target_cell[0] * COLUMNS + sample.target_cell[1]
    language = sample.task.language
    named = [e for e in elements if e.concept and label(e.concept, language) in sample.think]
    if not named and isinstance(sample.action, Swipe | Finish):
        named = [e for e in elements if e.kind in _ENDS]
    if not named and isinstance(sample.action, Swipe | Finish | Back):
        named = [e for e in elements if e.kind == "title"]
    if not named:
        named = [e for e in elements if e.kind == "spinner"]
    return _cell(named[-1], size) if named else None


def _cell(element: Element, size: tuple[int, int]) -> int:
    left, top, right, bottom = element.text_box or element.box
    column = int((left + right) / 2 / size[0] * COLUMNS)
    row = int((top + bottom) / 2 / size[1] * ROWS)
    return min(max(row, 0), ROWS - 1) * COLUMNS + min(max(column, 0), COLUMNS - 1)
