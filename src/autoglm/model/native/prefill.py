"""Steps of many rows on the kernels: prefill. They take the place of the decoder's layers on torch, step by step."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from autoglm.model.context import ForwardContext, KVStore
from autoglm.model.native.decoder import NativeDecoder
from autoglm.model.native.structs import PrefillC, SequenceC

FEWEST_ROWS = 8
"""Of a step that comes here; for fewer, torch wastes less (a vector of rows is computed whole)."""
ALL_ROWS = -1


class PrefillKernels:
    """What :class:`autoglm.model.decoder.Decoder` calls for the steps that fit, on the decoder's threads and weights.

    Args:
        kv: the memory the decoder's kernels know.
    """

    def __init__(self, decoder: NativeDecoder, kv: KVStore) -> None:
        self._decoder, self._kv = decoder, kv

    @classmethod
    def of(cls, decoder: NativeDecoder, kv: KVStore) -> PrefillKernels | None:
        """``None`` where they cannot run: several ranks, KV or activations of 16 bits."""
        whole = decoder.ranks == 1 and kv.spec.dtype == torch.float32
        return cls(decoder, kv) if whole else None

    def fits(self, context: ForwardContext) -> bool:
        """Whether a step is one for the kernels."""
        longest = max((s.context_len for s in context.sequences), default=0)
        return (
            context.kv is self._kv
            and context.paged is None
            and context.positions.shape[1] >= FEWEST_ROWS
            and longest <= self._decoder.sizes.max_tokens
        )

    def run(self, hidden: Tensor, context: ForwardContext, first: int, last: int) -> Tensor:
        """Half layers ``first`` to ``last - 1`` of ``hidden [rows, hidden_size]``: half ``2 l`` is the attention of layer
        ``l``, ``2 l + 1`` its feed-forward, each with its residual. Through the whole of the last layer go, and come
        back, ``output_rows`` only.
        """
        hidden, positions = hidden.contiguous(), context.positions.contiguous()
        slots = [_slots(s.slots, s.run_start, s.context_len) for s in context.sequences]
        sequences = (SequenceC * len(slots))(
            *(
                SequenceC(first=s.query_start, rows=s.query_len, length=s.context_len, slots=held.data_ptr())
                for s, held in zip(context.sequences, slots, strict=True)
            )
        )
        leave = context.output_rows is not None and first < last - 1 and last == 2 * self._decoder.layers
        want = context.output_rows.contiguous() if leave and context.output_rows is not None else None
        out = hidden.new_empty(len(hidden) if want is None else len(want), hidden.shape[1])
        step = PrefillC(
            rows=len(hidden),
            sequences=len(slots),
            first=first,
            last=last,
            wanted=ALL_ROWS if want is None else len(want),
            input=hidden.data_ptr(),
            output=out.data_ptr(),
            positions=positions.data_ptr(),
            want=None if want is None else want.data_ptr(),
            sequence=ctypes.cast(sequences, ctypes.POINTER(SequenceC)),
        )
        self._decoder.prefill(step)
        return out


def _slots(slots: Tensor | None, run_start: int | None, length: int) -> Tensor:
    """int64 ``[length]``."""
    if slots is not None:
        return slots.contiguous()
    if run_start is None:
        raise ValueError("a sequence needs slots or run_start")
    return torch.arange(run_start, run_start + length)
