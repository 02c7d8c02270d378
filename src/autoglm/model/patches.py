"""Vision towers over ranks: the patches of a batch by rank (sequence parallel), or its images (data parallel).

Tensor parallel towers need nothing of this: their layers are cut like the decoder's (:mod:`autoglm.model.sharding`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from autoglm.parallel.collectives import ALONE, Communicator
from autoglm.parallel.tensor import share

VisionParallel = Literal["tensor", "data", "sequence"]
"""What is shared out over tensor-parallel ranks: the tower's heads and widths, a batch's images, or their patches."""


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Rows of several images as one tensor; one alone is not copied (a large screenshot's pixels are 63 MB)."""
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


@dataclass(frozen=True)
class PatchRows:
    """The rows of a batch that this rank computes.

    A rank has a consecutive share of every sequence, the first ranks a unit more where it does not divide; of a short
    one it may have none. Everything but attention works row by row. Attention needs all keys and values of a sequence:
    they are gathered, one meeting a block. (An exchange of heads for rows needs two meetings, heads that divide, and at
    two ranks moves as many bytes; a ring needs a meeting for every other rank, and saves memory that is not short.)

    Args:
        lengths: rows of each sequence that attends within itself, on all ranks together.
        unit: rows that stay on one rank (those that are merged later).
        comm: the ranks. One alone has all rows.
    """

    lengths: tuple[int, ...]
    unit: int = 1
    comm: Communicator = ALONE

    @cached_property
    def spans(self) -> list[tuple[int, int]]:
        """This rank's ``[start, end)`` of each sequence."""
        return self._spans_of(self.comm.rank)

    @cached_property
    def own_lengths(self) -> list[int]:
        """This rank's rows of each sequence."""
        return [end - start for start, end in self.spans]

    def own(self, whole: Tensor) -> Tensor:
        """``[all rows, ...]`` -> ``[own rows, ...]``."""
        if self.comm.size == 1:
            return whole
        parts = torch.split(whole, list(self.lengths))
        return torch.cat([part[start:end] for part, (start, end) in zip(parts, self.spans, strict=True)])

    def whole(self, part: Tensor) -> Tensor:
        """``[own rows, ...]`` -> ``[all rows, ...]`` in their order; every rank calls it."""
        if self.comm.size == 1:
            return part
        return gathered_rows(part, self._counts, self.comm).index_select(0, self._order.to(part.device))

    def merged(self) -> PatchRows:
        """The same once each unit has become one row."""
        return PatchRows(tuple(length // self.unit for length in self.lengths), 1, self.comm)

    def _spans_of(self, rank: int) -> list[tuple[int, int]]:
        found = (share(length // self.unit, rank, self.comm.size) for length in self.lengths)
        return [(start * self.unit, end * self.unit) for start, end in found]

    @cached_property
    def _counts(self) -> list[int]:
        """Rows of each rank."""
        return [sum(end - start for start, end in self._spans_of(rank)) for rank in range(self.comm.size)]

    @cached_property
    def _order(self) -> Tensor:
        """Where each row of the whole stands among the ranks' rows, one rank's after the other's."""
        at = list(accumulate(self._counts, initial=0))
        parts = []
        for spans in zip(*(self._spans_of(rank) for rank in range(self.comm.size)), strict=True):
            for rank, (start, end) in enumerate(spans):
                parts.append(torch.arange(at[rank], at[rank] + end - start))
                at[rank] += end - start
        return torch.cat(parts)


def gathered_rows(part: Tensor, counts: Sequence[int], comm: Communicator) -> Tensor:
    """``[counts[rank], ...]`` of each rank -> ``[sum of counts, ...]`` on every rank, in order of rank."""
    most = max(counts)
    padded = F.pad(part, (0, 0) * (part.dim() - 1) + (0, most - part.shape[0])) if part.shape[0] < most else part
    found = comm.all_gather(padded, 0)
    if min(counts) == most:
        return found
    return torch.cat([one[:count] for one, count in zip(torch.split(found, most), counts, strict=True)])


def images_of_ranks(patches: Sequence[int], ranks: int) -> list[list[int]]:
    """Which images each rank encodes: the largest first, each to the rank with the fewest patches so far."""
    found: list[list[int]] = [[] for _ in range(ranks)]
    load = [0] * ranks
    for index in sorted(range(len(patches)), key=lambda i: -patches[i]):
        rank = load.index(min(load))
        found[rank].append(index)
        load[rank] += patches[index]
    return found


def encode_by_image(
    encode: Callable[[list[int]], list[Tensor]],
    patches: Sequence[int],
    tokens: Sequence[int],
    empty: Tensor,
    comm: Communicator,
) -> list[Tensor]:
    """Each rank encodes some images of a batch whole, and all get all; every rank calls it.

    Args:
        encode: visual tokens ``[tokens[i], width]`` of the images with these indices.
        patches, tokens: of each image. empty: ``[0, width]``, what a rank without an image has.
    """
    shares = images_of_ranks(patches, comm.size)
    mine = shares[comm.rank]
    part = torch.cat(encode(mine)) if mine else empty
    counts = [sum(tokens[i] for i in images) for images in shares]
    found = gathered_rows(part, counts, comm)
    order = [i for images in shares for i in images]
    parts = dict(zip(order, torch.split(found, [tokens[i] for i in order]), strict=True))
    return [parts[i] for i in range(len(tokens))]
