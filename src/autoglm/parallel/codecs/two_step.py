"""A sum over ranks whose message is coded: a coded reduce-scatter, then a coded all-gather.

Each rank owns a part of the message. Step one: everyone sends every owner its values of that part; the owner adds them
up. Step two: the owner sends the sum of its part to everyone. Each value is coded once a step, whatever the number of
ranks, and 2 (n - 1) / n of the message crosses a rank's link. (A coded gather, where everyone sends everything to
everyone, moves n / 2 times as much.) Parts go in blocks, so that coding one runs while another is on the link.
As in Flash Communication (arXiv 2412.04964) and ZeRO++ (arXiv 2306.10209).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from autoglm.parallel.codecs import codes
from autoglm.parallel.codecs.codes import Format
from autoglm.parallel.codecs.kernels import Kernels
from autoglm.parallel.collectives import Communicator, Handle

BLOCKS = 4
"""Pieces of a part that are under way at once, in a large message."""
BLOCK_BYTES = 2**15
"""A piece is not made smaller than this: each costs a message, whatever its size."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Values ``first <= i < last`` of the flat message: one block of one owner's part."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first


def pieces(count: int, group: int, size: int, blocks: int) -> list[list[Piece]]:
    """``[owner][block]``: all values once, in whole groups but for the last."""
    units = -(-count // group)
    edges = [min(units * k // (size * blocks) * group, count) for k in range(size * blocks + 1)]
    flat = [Piece(a, b) for a, b in pairwise(edges)]
    return [flat[owner * blocks : (owner + 1) * blocks] for owner in range(size)]


def plan_of(form: Format, count: int, size: int) -> list[list[Piece]]:
    """:func:`pieces` of a message, as many as its size is worth."""
    blocks = max(1, min(BLOCKS, form.nbytes(count) // size // BLOCK_BYTES))
    return pieces(count, form.group, size, blocks)


class TwoStepSum:
    """Sums float32 CPU messages in one format.

    Args:
        inner: carries the bytes.
        kernels: code and decode.
    """

    def __init__(self, inner: Communicator, kernels: Kernels) -> None:
        self.inner = inner
        self.kernels = kernels
        self._space = torch.empty(0, dtype=torch.uint8)

    def __call__(self, values: Tensor) -> Tensor:
        """The sum, in ``values`` (one dimension, contiguous): equal bits on every rank."""
        inner, form = self.inner, self.kernels.form
        plan = plan_of(form, len(values), inner.size)
        mine = plan[inner.rank]
        blocks = range(len(mine))
        # From the next rank on, so that not all ranks send to one at the same time.
        peers = [(inner.rank + step) % inner.size for step in range(1, inner.size)]
        room = _Room(self, [form.nbytes(len(p)) for part in plan for p in part], len(mine) * len(peers) * 2)
        # All receives before any send: gloo runs the link one way at a time otherwise.
        shares = [[_post(inner, room.take(form.nbytes(len(p))), peer) for peer in peers] for p in mine]
        sums = [[_post(inner, room.take(form.nbytes(len(plan[p][b]))), p) for p in peers] for b in blocks]
        sent: list[Handle] = []
        for block in blocks:
            for peer in peers:
                piece = plan[peer][block]
                out = room.take(form.nbytes(len(piece)))
                if len(piece):
                    self.kernels.encode(values[piece.first : piece.last], piece.first, out)
                    sent.append(inner.isend(out, peer))
        for block, piece in enumerate(mine):
            if not len(piece):
                continue
            arrived = [handle.wait() for handle in shares[block] if handle is not None]
            out = room.take(form.nbytes(len(piece)))
            self.kernels.reduce(values[piece.first : piece.last], arrived, piece.first, out)
            sent += [inner.isend(out, peer) for peer in peers]
        for block in blocks:
            for peer, handle in zip(peers, sums[block], strict=True):
                piece = plan[peer][block]
                if handle is not None:
                    self.kernels.decode(handle.wait(), piece.first, values[piece.first : piece.last])
        for handle in sent:
            handle.wait()
        return values


class _Room:
    """Buffers out of one that is kept from message to message."""

    def __init__(self, owner: TwoStepSum, lengths: list[int], received: int) -> None:
        need = 3 * sum(lengths) + max(lengths) * received
        if len(owner._space) < need:
            owner._space = torch.empty(need, dtype=torch.uint8)
        self._space = owner._space
        self._used = 0

    def take(self, length: int) -> Tensor:
        first = self._used
        self._used += length
        return self._space[first : self._used]


def _post(inner: Communicator, buffer: Tensor, source: int) -> Handle | None:
    return inner.irecv(buffer, source) if len(buffer) else None


def simulated(form: Format, partials: list[Tensor]) -> Tensor:
    """What :class:`TwoStepSum` gives for the ranks' ``partials`` (one dimension), in one process: for quality gates."""
    plan = plan_of(form, len(partials[0]), len(partials))
    out = torch.empty_like(partials[0])
    for owner, part in enumerate(plan):
        for piece in filter(len, part):
            cut = slice(piece.first, piece.last)
            others = [codes.encode(form, p[cut], piece.first) for rank, p in enumerate(partials) if rank != owner]
            out[cut] = codes.reduce(form, partials[owner][cut], others, piece.first)[1]
    return out
