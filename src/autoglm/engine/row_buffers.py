"""The inputs of a decode step, in memory that stays in its place: one row a token, padded to a given number of rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autoglm.cache import BlockTable
from autoglm.model.paged import PagedAttention, PagedRows

_NUMBERS = 6  # of a row: token, three positions, slot, length


@dataclass(frozen=True, slots=True)
class RowInputs:
    """What the first rows of the buffers say: ``ids [rows]``, ``positions [3, rows]``, ``slots [rows]``, all int64."""

    ids: Tensor
    positions: Tensor
    slots: Tensor
    paged: PagedRows


class RowBuffers:
    """Filled on the host, sent in one piece; a row's block table is only written again where it changed.

    Args:
        scratch: a block that belongs to nobody: padded rows write there and read it.
    """

    def __init__(self, rows: int, columns: int, block_size: int, scratch: int, device: torch.device) -> None:
        pinned = device.type == "cuda"
        self.rows, self.columns = rows, columns
        self._block_size, self._scratch = block_size, scratch
        self._numbers = torch.zeros((rows, _NUMBERS), dtype=torch.int64, pin_memory=pinned)
        self._tables = torch.full((rows, columns), scratch, dtype=torch.int32, pin_memory=pinned)
        self._device_numbers = self._numbers.to(device, copy=True)
        self._device_tables = self._tables.to(device, copy=True)
        self._holders: list[tuple[BlockTable, int] | None] = [None] * rows
        self._changed = False
        self._pad = torch.tensor([0, 0, 0, 0, scratch * block_size, 1])

    def put(self, row: int, token: int, position: tuple[int, int, int], length: int, table: BlockTable) -> None:
        """Row ``row`` is ``token``, the last of ``length`` tokens of the sequence that holds ``table``."""
        at = length - 1
        slot = table.blocks[at // self._block_size] * self._block_size + at % self._block_size
        self._numbers[row] = torch.tensor([token, *position, slot, length])
        holder, count = self._holders[row], len(table.blocks)
        if holder is not None and holder[0] is table and holder[1] == count:
            return
        known = holder[1] if holder is not None and holder[0] is table and holder[1] < count else 0
        self._tables[row, known:count] = torch.tensor(table.blocks[known : self.columns], dtype=torch.int32)
        self._holders[row] = (table, count)
        self._changed = True

    def send(self, used: int, rows: int) -> None:
        """To the device: ``used`` rows were put, those up to ``rows`` are padding. The last send must have arrived."""
        self._numbers[used:rows] = self._pad
        for row in range(used, rows):
            if self._holders[row] is not None:
                self._tables[row] = self._scratch
                self._holders[row] = None
                self._changed = True
        self._device_numbers[:rows].copy_(self._numbers[:rows], non_blocking=True)
        if self._changed:
            # All rows: those not used now may be next time, without having changed then.
            self._device_tables.copy_(self._tables, non_blocking=True)
            self._changed = False

    def inputs(self, rows: int, columns: int, attention: PagedAttention) -> RowInputs:
        """The first ``rows`` rows on the device, with as many columns of their tables."""
        numbers = self._device_numbers[:rows].T.contiguous()
        tables = self._device_tables[:rows, :columns]
        paged = PagedRows(tables, numbers[5], self._block_size, attention)
        return RowInputs(numbers[0], numbers[1:4], numbers[4], paged)
