"""Steps of many rows on the kernels: prefill. They take the place of the decoder's layers on torch, step by step."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from autoglm.model.attention import AttentionPlan
from autoglm.model.context import ForwardContext, KVStore, SequenceSlice
from autoglm.model.native.description import Sizes, describe, unfit
from autoglm.model.native.handle import Handle
from autoglm.model.native.library import level
from autoglm.model.native.structs import PrefillC, SequenceC
from autoglm.model.registry import Model

FEWEST_ROWS = 8
"""Of a step that comes here; for fewer, torch wastes less (a vector of rows is computed whole)."""
ALL_ROWS = -1


class PrefillKernels:
    """What :class:`autoglm.model.decoder.Decoder` calls for the steps that fit.

    Args:
        kv: the memory that steps read and write.
        longest: tokens of a sequence at most. threads: of their own, since more of them pay than for decoding.
        instructions: as for :class:`Handle`.
    """

    def __init__(
        self, model: Model, kv: KVStore, longest: int, block_size: int, threads: int, instructions: int | None = None
    ) -> None:
        self._kv, self._longest, self._layers = kv, longest, len(model.decoder.layers)
        self._before = 0 if model.stage is None else 2 * model.stage.first  # half layers of the stages before
        self._description = describe(model, kv, Sizes(1, longest, block_size, threads))
        self.handle = Handle(self._description.model, instructions)

    @classmethod
    def of(cls, model: Model, kv: KVStore, longest: int, block_size: int) -> PrefillKernels | None:
        """With torch's threads; ``None`` where they cannot run, or torch is faster: not built, a machine without wide
        vectors, several ranks, KV or activations of 16 bits."""
        if level() <= 0 or model.comm.size > 1 or kv.spec.dtype != torch.float32 or unfit(model) is not None:
            return None
        return cls(model, kv, longest, block_size, torch.get_num_threads())

    def plan(self, context: ForwardContext, rotations: Tensor) -> AttentionPlan | None:
        """As :class:`autoglm.model.decoder.LayerKernels` says; no masks, which the kernels do not read."""
        return AttentionPlan(rotations, [], by_kernels=True) if self.fits(context) else None

    def fits(self, context: ForwardContext) -> bool:
        """Whether a step is one for the kernels."""
        longest = max((s.context_len for s in context.sequences), default=0)
        return (
            context.kv is self._kv
            and context.paged is None
            and context.positions.shape[1] >= FEWEST_ROWS
            and longest <= self._longest
        )

    def run(self, hidden: Tensor, context: ForwardContext, plan: AttentionPlan, first: int, last: int) -> Tensor:
        """As :class:`autoglm.model.decoder.LayerKernels` says."""
        slots = [_slots(s) for s in context.sequences]
        parts = [(s.query_start, s.query_len, s.context_len) for s in context.sequences]
        leave = context.output_rows is not None and first < last - 1 and last == 2 * self._layers
        turn = torch.view_as_real(plan.rotations)
        rows = Rows(hidden, parts, slots, turn, context.output_rows if leave else None)
        return run_halves(self.handle, rows, first - self._before, last - self._before)


@dataclass(frozen=True, slots=True)
class Rows:
    """A step's rows.

    Attributes:
        hidden: float32 ``[rows, width]``.
        parts: of each sequence: its first row, its rows, its tokens with them.
        slots: int64, of each sequence's tokens.
        turn: float32 ``[rows, 1, pairs, 2]``, cosine and sine; ``[..., pairs, 2]`` of as many rows.
        want: int64, ascending; the rows that leave the last layer. ``None``: all.
    """

    hidden: Tensor
    parts: list[tuple[int, int, int]]
    slots: list[Tensor]
    turn: Tensor
    want: Tensor | None = None


def run_halves(handle: Handle, rows: Rows, first: int, last: int) -> Tensor:
    """Half layers ``first`` to ``last - 1``: ``[rows or wanted, width]``."""
    hidden, turn, want = rows.hidden.contiguous(), rows.turn.contiguous(), rows.want
    slots = [held.contiguous() for held in rows.slots]
    sequences = (SequenceC * len(slots))(
        *(
            SequenceC(first=start, rows=count, length=length, slots=held.data_ptr())
            for (start, count, length), held in zip(rows.parts, slots, strict=True)
        )
    )
    out = hidden.new_empty(len(hidden) if want is None else len(want), hidden.shape[1])
    attends = first % 2 == 0 or last - first > 1
    step = PrefillC(
        rows=len(hidden),
        sequences=len(slots),
        first=first,
        last=last,
        wanted=ALL_ROWS if want is None else len(want),
        input=hidden.data_ptr(),
        output=out.data_ptr(),
        rotation=turn.data_ptr() if attends else None,
        want=None if want is None else want.data_ptr(),
        sequence=ctypes.cast(sequences, ctypes.POINTER(SequenceC)),
    )
    handle.prefill(step)
    return out


def _slots(sequence: SequenceSlice) -> Tensor:
    if sequence.slots is not None:
        return sequence.slots
    if sequence.run_start is None:
        raise ValueError("a sequence needs slots or run_start")
    return torch.arange(sequence.run_start, sequence.run_start + sequence.context_len)
