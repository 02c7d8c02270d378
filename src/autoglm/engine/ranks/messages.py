"""What rank 0 and the other ranks say to each other, as MessagePack."""

from __future__ import annotations

import msgspec
from msgspec import Struct

PROTOCOL = 2
LOST, REFUSED = 70, 78
"""Exit statuses of a rank: another one, or the channel, is lost; rank 0 would not have it."""


class Hello(Struct, frozen=True, kw_only=True):
    """First word of a rank: what it is made of. Rank 0 refuses it if anything differs from its own."""

    protocol: int
    rank: int
    world_size: int
    version: str
    torch: str
    checkpoint: bytes
    config: bytes


class Welcome(Struct, frozen=True, kw_only=True):
    """Rank 0's answer.

    Attributes:
        refusal: why the rank is not taken; empty: it is.
        store: where the ranks of this life meet (see :mod:`autoglm.engine.ranks.rendezvous`).
    """

    refusal: str = ""
    store: str = ""


class Begin(Struct, frozen=True, kw_only=True):
    """All weights are loaded: make KV memory of so many blocks, then run steps."""

    num_blocks: int


class Part(Struct, frozen=True, array_like=True):
    """One sequence's rows. ``run_start`` -1: its KV lies in ``blocks`` (int32 block numbers), else in one run."""

    query_len: int
    context_len: int
    run_start: int
    blocks: bytes


class NewImage(Struct, frozen=True, array_like=True):
    """An image to encode in this step; later steps name it by ``number``. ``pixels``: float32 of ``shape``."""

    number: int
    grid: tuple[int, int, int]
    shape: tuple[int, ...]
    pixels: bytes


class Splice(Struct, frozen=True, array_like=True):
    """Rows ``[row, row + count)`` of the step are rows ``[offset, ...)`` of an image's features."""

    row: int
    count: int
    image: int
    offset: int


class Span(Struct, frozen=True, array_like=True):
    """Rows ``[row_start, row_end)`` see these images by cross-attention."""

    row_start: int
    row_end: int
    images: tuple[int, ...]


class Step(Struct, frozen=True, kw_only=True):
    """One step of the model, the same on every rank.

    Attributes:
        copies: (source block, target block, tokens), done before the step.
        dropped: images whose features nobody needs any more.
        ids: int32. positions: int32 ``[3, rows]``, or ``[rows]`` where the three are equal.
        output_rows: int32, the rows whose logits are wanted; ``None``: all.
        native: on the compiled kernels. Positions are then ``[3, rows]``, and a span is all rows of a sequence.
    """

    ids: bytes
    positions: bytes
    parts: list[Part]
    output_rows: bytes | None
    copies: list[tuple[int, int, int]] = []
    dropped: list[int] = []
    images: list[NewImage] = []
    splices: list[Splice] = []
    spans: list[Span] = []
    native: bool = False


class Stop(Struct, frozen=True, tag=True):
    """Rank 0 closes: end with status 0."""


class Run(Struct, frozen=True, tag=True):
    """Execute a step."""

    step: Step


Order = Run | Stop
encode = msgspec.msgpack.Encoder().encode
decode_order = msgspec.msgpack.Decoder(Order).decode
