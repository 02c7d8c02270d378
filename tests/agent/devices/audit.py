"""What must hold of every simulated screen."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from autoglm.agent.devices.simulated import KINDS, Box, SimulatedPhone
from autoglm.agent.devices.simulated.catalog import label
from autoglm.agent.devices.simulated.layout import Placed
from autoglm.agent.tasks.grid import target_cell

MODEL_WIDTH, MODEL_HEIGHT = 192, 432
"""The size at which a small model sees the screen."""


def faults(phone: SimulatedPhone) -> list[str]:
    """Everything wrong with the screen in front; empty when all is well."""
    found = [fault for item in phone.placed() for fault in _faults_of(phone, item)]
    targets = [item.element for item in phone.placed() if item.element.target]
    found += [f"{a} overlaps {b}" for a, b in combinations(targets, 2) if _overlap(a.box, b.box)]
    return found


def _faults_of(phone: SimulatedPhone, item: Placed) -> Iterator[str]:
    element, (width, height) = item.element, phone.size
    if element.kind not in KINDS:
        yield f"unknown kind: {element}"
    left, top, right, low = element.box
    if not (0 <= left < right <= width and 0 <= top < low <= height):
        yield f"outside the screen: {element}"
    if element.concept and element.text != label(element.concept, phone.spec.language):
        yield f"not the label of its concept: {element}"
    if element.concept and item.lines != (element.text,):
        yield f"label cut: {item}"
    if item.lines and not _inside(element.text_box or element.box, element.box):
        yield f"label outside its box: {item}"
    if element.concept and item.size * 360 < 18 * width:
        yield f"label too small: {item}"
    if element.target:
        if (right - left) * MODEL_WIDTH < 28 * width or (low - top) * MODEL_HEIGHT < 16 * height:
            yield f"too small to hit: {element}"
        target_cell(phone.size, element)  # raises where no cell lies inside


def _inside(inner: Box, outer: Box) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
