"""A screen as symbols: what each cell of the patch grid shows, and the fixed vectors that stand for it.

The vectors let the two halves of the model learn at the same time. The decoder is first taught on the symbols' own
vectors, with no pixel drawn; the vision tower is taught to make these vectors of pixels; then they are put together
and taught as one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoglm.agent.devices.simulated.catalog import LABELS
from autoglm.agent.devices.simulated.elements import KINDS, Element
from autoglm.agent.tasks.grid import target_cell
from training.shape import CELLS, COLUMNS, HIDDEN, ROWS

CONCEPT_OF = {name: index for index, name in enumerate(sorted(LABELS), start=1)}
KIND_OF = {name: index for index, name in enumerate(KINDS, start=1)}
_FIELD_STATES = ("", "on", "off", "focused", "filled", "selected", "mine", "theirs", "top", "middle", "bottom")
STATES = (*_FIELD_STATES, "1/1", "1/2", "2/2", "1/3", "2/3", "3/3")
STATE_OF = {name: index for index, name in enumerate(STATES)}
SIZES = (len(CONCEPT_OF) + 1, len(KIND_OF) + 1, len(STATE_OF), 2)
"""Classes of a cell's label, kind, state and of its being where a tap on its element goes; class 0 is none."""
WIDTHS = (108, 24, 12, 8)
_PLACE = HIDDEN - sum(WIDTHS)


def symbols_of(elements: tuple[Element, ...], width: int, height: int) -> NDArray[np.int16]:
    """``[4, cells]``: label, kind, state, tap point of each cell; what is drawn later covers what was before."""
    grid = np.zeros((4, ROWS, COLUMNS), dtype=np.int16)
    for element in elements:
        left, top, right, bottom = element.box
        columns = _inside(left / width, right / width, COLUMNS)
        rows = _inside(top / height, bottom / height, ROWS)
        grid[0, rows, columns] = 0
        grid[1, rows, columns] = KIND_OF[element.kind]
        grid[2, rows, columns] = STATE_OF.get(element.state, 0)
        grid[3, rows, columns] = 0
        label = CONCEPT_OF.get(element.concept, 0)
        left, top, right, bottom = element.text_box or element.box
        if label:
            rows, columns = (
                _touched(top / height, bottom / height, ROWS),
                _touched(left / width, right / width, COLUMNS),
            )
            grid[0, rows, columns] = label
        if element.target:
            row, column = target_cell((width, height), element)
            grid[3, row, column] = 1
            if label:
                grid[0, row, column] = label
    return grid.reshape(4, CELLS)


def _inside(start: float, stop: float, count: int) -> slice:
    """Cells whose centre lies in ``[start, stop)``."""
    return slice(max(0, int(np.ceil(start * count - 0.5))), max(0, int(np.ceil(stop * count - 0.5))))


def _touched(start: float, stop: float, count: int) -> slice:
    """Cells that the interval covers by a third of a cell, and at least the one under its middle."""
    first, last = int(np.ceil(start * count - 2 / 3)), int(np.floor(stop * count + 2 / 3))
    if last <= first:
        first = int((start + stop) / 2 * count)
        last = first + 1
    return slice(max(0, first), max(0, last))


@dataclass(frozen=True, slots=True)
class SymbolVectors:
    """Fixed vectors; a cell is the concatenation of those of its symbols and of its place."""

    tables: tuple[Tensor, ...]
    place: Tensor

    @classmethod
    def make(cls, seed: int = 1) -> SymbolVectors:
        """The same on every machine."""
        generator = torch.Generator().manual_seed(seed)
        tables = []
        for size, width in zip(SIZES, WIDTHS, strict=True):
            table = torch.randn(size, width, generator=generator)
            table[0] = 0
            tables.append(table)
        tables[2] = torch.randn(SIZES[2], WIDTHS[2], generator=generator)
        rows, columns = torch.arange(CELLS) // COLUMNS, torch.arange(CELLS) % COLUMNS
        half = _PLACE // 2
        place = torch.cat([_waves((rows + 0.5) / ROWS, half), _waves((columns + 0.5) / COLUMNS, _PLACE - half)], dim=1)
        return cls(tuple(tables), place)

    def features(self, symbols: Tensor) -> Tensor:
        """int64 ``[screens, 4, cells]`` -> ``[screens, cells, hidden]``."""
        parts = [table[symbols[:, i]] for i, table in enumerate(self.tables)]
        return torch.cat([*parts, self.place.expand(symbols.shape[0], -1, -1)], dim=-1)

    def logits(self, features: Tensor) -> list[Tensor]:
        """Of each kind of symbol, ``[..., classes]``: how near the features are to each vector."""
        found, start = [], 0
        for table in self.tables:
            part = features[..., start : start + table.shape[1]]
            start += table.shape[1]
            scale = 6.0 / table.shape[1]
            found.append(scale * (part @ table.T - 0.5 * table.square().sum(1)))
        return found


def _waves(at: Tensor, width: int) -> Tensor:
    frequencies = 2 ** torch.linspace(-1, 3.8, width // 2) * torch.pi
    angles = at[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
