"""Blocks between the device's KV and the arena in host memory, many in one operation.

On CUDA all copies run on a stream of their own: the arena is pinned, a gather (or scatter) and the model's stream
wait for each other by events, and the host is not blocked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Transfer(Protocol):
    """Moves whole blocks. A place is a page number of the arena."""

    def exchange(self, saves: Sequence[tuple[int, int]], loads: Sequence[tuple[int, int]]) -> None:
        """Copy out (device block, page), then in (page, device block).

        All are whole blocks; no page is in both lists; a block in both is read before it is written.
        """

    def export(self, blocks: Sequence[int]) -> Exported:
        """Copies of device blocks that outlive the blocks."""

    def move(self, source: int, target: int, nbytes: int) -> None:
        """Copy inside the arena; offsets in bytes."""

    def write(self, offset: int, payload: memoryview) -> None:
        """Bytes from elsewhere into the arena."""

    def read(self, offset: int, nbytes: int) -> bytes:
        """What :meth:`write` wrote."""


class Exported:
    """Bytes of some blocks, maybe still on their way; :meth:`payloads` may be called from any thread."""

    def __init__(self, rows: Tensor, ready: torch.cuda.Event | None) -> None:
        self._rows = rows
        self._ready = ready

    @property
    def nbytes(self) -> int:
        return self._rows.nbytes

    def payloads(self) -> list[memoryview]:
        """One per block, waiting for the copy if need be."""
        if self._ready is not None:
            self._ready.synchronize()
        return [memoryview(row.view(torch.uint8).reshape(-1).numpy()) for row in self._rows]


class TensorTransfer:
    """The real thing.

    Args:
        keys, values: ``[layers, kv_heads, slots, head_dim]`` on the device. pages: size of the arena in blocks.
    """

    def __init__(self, keys: Tensor, values: Tensor, block_size: int, pages: int) -> None:
        layers, heads, slots, dim = keys.shape
        blocks = slots // block_size
        self._keys = keys.view(layers, heads, blocks, block_size, dim)
        self._values = values.view(layers, heads, blocks, block_size, dim)
        self.page_bytes = 2 * layers * heads * block_size * dim * keys.dtype.itemsize
        self._cuda = keys.device.type == "cuda"
        self._stream = torch.cuda.Stream(keys.device) if self._cuda else None  # type: ignore[no-untyped-call]
        # Not cleared: pages nobody wrote stay untouched, and none is read before it was written.
        self._arena = torch.empty(pages * self.page_bytes, dtype=torch.uint8, pin_memory=self._cuda)
        self._rows = self._arena.view(keys.dtype).view(pages, 2, layers, heads, block_size, dim)
        self._raw: NDArray[np.uint8] = self._arena.numpy()

    @torch.inference_mode()
    def exchange(self, saves: Sequence[tuple[int, int]], loads: Sequence[tuple[int, int]]) -> None:
        if self._stream is not None:
            self._exchange_cuda(saves, loads, self._stream)
            return
        if saves:
            blocks, pages = _columns(saves)
            self._rows[pages, 0] = self._keys[:, :, blocks].permute(2, 0, 1, 3, 4)
            self._rows[pages, 1] = self._values[:, :, blocks].permute(2, 0, 1, 3, 4)
        if loads:
            pages, blocks = _columns(loads)
            rows = self._rows[pages]
            self._keys[:, :, blocks] = rows[:, 0].permute(1, 2, 0, 3, 4)
            self._values[:, :, blocks] = rows[:, 1].permute(1, 2, 0, 3, 4)

    @torch.inference_mode()
    def export(self, blocks: Sequence[int]) -> Exported:
        index = torch.tensor(blocks)
        if self._stream is None:
            return Exported(self._gather(index), None)
        main = torch.cuda.current_stream(self._keys.device)
        self._stream.wait_stream(main)
        with torch.cuda.stream(self._stream):
            rows = self._gather(index.to(self._keys.device))
            host = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
            main.wait_stream(self._stream)  # the blocks may be written again once they are gathered
            host.copy_(rows, non_blocking=True)
            rows.record_stream(self._stream)
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record(self._stream)
        return Exported(host, ready)

    def move(self, source: int, target: int, nbytes: int) -> None:
        if self._stream is not None:
            self._stream.synchronize()
        self._raw[target : target + nbytes] = self._raw[source : source + nbytes]

    def write(self, offset: int, payload: memoryview) -> None:
        if self._stream is not None:
            self._stream.synchronize()  # an earlier block's copy out of this page may be under way
        self._raw[offset : offset + payload.nbytes] = np.frombuffer(payload, dtype=np.uint8)

    def read(self, offset: int, nbytes: int) -> bytes:
        return self._raw[offset : offset + nbytes].tobytes()

    def _gather(self, blocks: Tensor) -> Tensor:
        """``[n, 2, layers, heads, block, dim]``."""
        keys = self._keys[:, :, blocks].permute(2, 0, 1, 3, 4)
        values = self._values[:, :, blocks].permute(2, 0, 1, 3, 4)
        return torch.stack([keys, values], dim=1)

    def _exchange_cuda(
        self, saves: Sequence[tuple[int, int]], loads: Sequence[tuple[int, int]], stream: torch.cuda.Stream
    ) -> None:
        device = self._keys.device
        main = torch.cuda.current_stream(device)
        stream.wait_stream(main)
        with torch.cuda.stream(stream):
            if saves:
                blocks, _ = _columns(saves)
                rows = self._gather(blocks.to(device))
                gathered = torch.cuda.Event()  # type: ignore[no-untyped-call]
                gathered.record(stream)
                main.wait_event(gathered)
                for start, count, page in _runs([page for _, page in saves]):
                    self._rows[page : page + count].copy_(rows[start : start + count], non_blocking=True)
                rows.record_stream(stream)
            if loads:
                _, blocks = _columns(loads)
                rows = torch.empty((len(loads), *self._rows.shape[1:]), dtype=self._keys.dtype, device=device)
                for start, count, page in _runs([page for page, _ in loads]):
                    rows[start : start + count].copy_(self._rows[page : page + count], non_blocking=True)
                index = blocks.to(device)
                self._keys[:, :, index] = rows[:, 0].permute(1, 2, 0, 3, 4)
                self._values[:, :, index] = rows[:, 1].permute(1, 2, 0, 3, 4)
                rows.record_stream(stream)
                main.wait_stream(stream)


class NoTransfer:
    """Moves nothing: the index alone, for simulations."""

    def exchange(self, saves: Sequence[tuple[int, int]], loads: Sequence[tuple[int, int]]) -> None:
        pass

    def export(self, blocks: Sequence[int]) -> Exported:
        return Exported(torch.empty(len(blocks), 0, dtype=torch.uint8), None)

    def move(self, source: int, target: int, nbytes: int) -> None:
        pass

    def write(self, offset: int, payload: memoryview) -> None:
        pass

    def read(self, offset: int, nbytes: int) -> bytes:  # noqa: ARG002 - there are no bytes
        return bytes(nbytes)


def _columns(pairs: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    table = torch.tensor(pairs)
    return table[:, 0], table[:, 1]


def _runs(pages: Sequence[int]) -> list[tuple[int, int, int]]:
    """Neighbouring pages as (first index, count, first page): one copy each."""
    runs: list[tuple[int, int, int]] = []
    for index, page in enumerate(pages):
        if runs and page == runs[-1][2] + runs[-1][1]:
            start, count, first = runs[-1]
            runs[-1] = start, count + 1, first
        else:
            runs.append((index, 1, page))
    return runs
