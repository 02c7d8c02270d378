"""Small messages grouped into one: a collective costs the same for 8 bytes as for 8 KiB."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from autoglm.parallel.collectives import Communicator

MAX_BYTES = 2**18


def all_reduce_grouped(group: Communicator, tensors: Sequence[Tensor], max_bytes: int = MAX_BYTES) -> list[Tensor]:
    """Sums of ``tensors`` over all ranks, in few messages.

    Neighbours of one type and device share a message up to ``max_bytes``; a larger tensor goes alone, uncopied. Every
    rank passes the same shapes in the same order. As :meth:`Communicator.all_reduce`, it may write into ``tensors``.
    """
    sums: list[Tensor] = []
    for run in _runs(tensors, max_bytes):
        if len(run) == 1:
            sums.append(group.all_reduce(run[0]))
            continue
        together = group.all_reduce(torch.cat([t.reshape(-1) for t in run]))
        parts = torch.split(together, [t.numel() for t in run])
        sums += [part.view(t.shape) for part, t in zip(parts, run, strict=True)]
    return sums


def _runs(tensors: Sequence[Tensor], max_bytes: int) -> Iterator[list[Tensor]]:
    run: list[Tensor] = []
    size = 0
    for tensor in tensors:
        like = not run or (run[0].dtype, run[0].device) == (tensor.dtype, tensor.device)
        if run and (not like or size + tensor.nbytes > max_bytes):
            yield run
            run, size = [], 0
        run.append(tensor)
        size += tensor.nbytes
    if run:
        yield run
