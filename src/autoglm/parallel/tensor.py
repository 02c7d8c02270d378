"""Tensor parallel plans: which checkpoint tensor is cut along which dimension, and what a rank's part of it is.

Products come in pairs (Shoeybi et al. 2019): the first is cut by output rows, so each rank has some heads or some of
the MLP's width; the second by input columns, and its results are summed over the ranks. Vocabulary rows are cut in the
embedding (summed) and in the head (gathered). Where there are fewer KV heads than ranks, neighbours hold the same one.
What does not divide is shared out as evenly as it can be, the first ranks having one more.
Norms, scalars, the patch map and the position table are small, and whole on every rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
import torch.nn.functional as F
from torch import Tensor

from autoglm.errors import InvalidInputError
from autoglm.parallel.collectives import Communicator


def share(count: int, rank: int, size: int) -> tuple[int, int]:
    """``(start, end)`` of a rank's share of ``count`` things; the first ranks have one more if it does not divide."""
    each, more = divmod(count, size)
    start = rank * each + min(rank, more)
    return start, start + each + (rank < more)


@dataclass(frozen=True, slots=True)
class Cut:
    """How one tensor is shared out.

    Attributes:
        dim: 0: rows, 1: columns.
        units: along ``dim``, of equal width, which stay whole (heads, or groups of them); 0: single rows or columns.
        sections: equal sections stacked along ``dim`` (gate and up; query, key and value), each cut by itself.
        shared: with fewer units than ranks, neighbouring ranks hold the same unit.
        even: every rank must hold as many units.
        kind: what a unit is called.
    """

    dim: int
    units: int = 0
    sections: int = 1
    shared: bool = False
    even: bool = False
    kind: str = "heads"

    def ranges(self, length: int, rank: int, size: int, name: str) -> list[tuple[int, int]]:
        """The ``(start, end)`` along ``dim`` that rank ``rank`` of ``size`` holds, one for each section.

        Raises:
            InvalidInputError: it cannot be shared out over so many ranks.
        """
        section = length // self.sections
        units = self.units or section
        if self.shared and units < size and size % units == 0:
            first = rank * units // size
            last = first + 1
        elif units >= size and section % units == 0 and not (self.even and units % size):
            first, last = share(units, rank, size)
        else:
            what = self.kind if self.units else ("rows", "columns")[self.dim]
            raise InvalidInputError(
                f"{name} has {units} {what}, which cannot be shared out over {size} ranks",
                field="tensor_parallel_size",
                limit=units,
                value=size,
            )
        width = section // units
        return [(s * section + first * width, s * section + last * width) for s in range(self.sections)]


Rules = tuple[tuple[str, Cut], ...]
"""(pattern of checkpoint names, cut); the first that matches counts."""
ROWS, COLUMNS = Cut(0), Cut(1)


def _queries(dim: int, heads: int, kv_heads: int, size: int) -> Cut:
    """Query heads go with their KV head; where that is shared, the ranks that share it have as many of them each."""
    return Cut(dim, kv_heads) if kv_heads >= size else Cut(dim, heads, even=True)


GROUP = 32
"""Columns of the MLP's second product that stay on one rank where they can: what packed weights have one scale for."""


def decoder_rules(heads: int, kv_heads: int, width: int, size: int) -> Rules:
    """The GLM decoder with an MLP of ``width``, its embedding and its head, for ``size`` ranks."""
    groups = width // GROUP if width % GROUP == 0 and width >= GROUP * size else 0
    layer = "model.language_model.layers.*"
    return (
        (f"{layer}.self_attn.q_proj.*", _queries(0, heads, kv_heads, size)),
        (f"{layer}.self_attn.[kv]_proj.*", Cut(0, kv_heads, shared=True)),
        (f"{layer}.self_attn.o_proj.weight", _queries(1, heads, kv_heads, size)),
        (f"{layer}.mlp.gate_up_proj.weight", Cut(0, groups, sections=2)),
        (f"{layer}.mlp.down_proj.weight", Cut(1, groups)),
        ("model.language_model.embed_tokens.weight", ROWS),
        ("lm_head.weight", ROWS),
    )


def vision_rules(heads: int) -> Rules:
    """The blocks of both vision towers, and what projects to the decoder's width in either."""
    block, visual = "model.visual.blocks.*", "model.visual"
    return (
        (f"{block}.attn.qkv.weight", Cut(0, heads, sections=3)),
        (f"{block}.attn.proj.weight", Cut(1, heads)),
        (f"{block}.mlp.gate_proj.weight", ROWS),
        (f"{block}.mlp.up_proj.weight", ROWS),
        (f"{block}.mlp.down_proj.weight", COLUMNS),
        (f"{visual}.downsample.*", ROWS),
        (f"{visual}.merger.proj.weight", COLUMNS),
        (f"{visual}.merger.gate_proj.weight", ROWS),
        (f"{visual}.merger.up_proj.weight", ROWS),
        (f"{visual}.merger.down_proj.weight", COLUMNS),
        (f"{visual}.projector.up.*", ROWS),
        (f"{visual}.projector.out.weight", COLUMNS),
    )


def fusion_rules(heads: int, kv_heads: int, size: int) -> Rules:
    """Gated cross-attention and the time gate, whose two projections are gathered before their norms."""
    module = "model.cross_attention.*"
    return (
        (f"{module}.q_proj.weight", _queries(0, heads, kv_heads, size)),
        (f"{module}.[kv]_proj.weight", Cut(0, kv_heads, shared=True)),
        (f"{module}.o_proj.weight", _queries(1, heads, kv_heads, size)),
        ("model.time_gate.text_proj.weight", ROWS),
        ("model.time_gate.visual_proj.weight", ROWS),
    )


@dataclass(frozen=True, slots=True)
class Sharding:
    """What rank ``rank`` of ``size`` holds of a checkpoint."""

    rules: Rules
    rank: int
    size: int

    def cut_of(self, name: str) -> Cut | None:
        """How the tensor ``name`` of a checkpoint is cut; ``None``: every rank holds it whole."""
        return next((cut for pattern, cut in self.rules if fnmatchcase(name, pattern)), None)

    def ranges(self, name: str, shape: tuple[int, ...]) -> tuple[int, list[tuple[int, int]]] | None:
        """``(dim, [(start, end), ...])`` of this rank's part of a tensor; ``None``: all of it. Raises as the cut."""
        cut = self.cut_of(name)
        if cut is None:
            return None
        return cut.dim, cut.ranges(shape[cut.dim], self.rank, self.size, name)

    def local_rows(self, name: str, rows: int) -> int:
        """Rows this rank holds of a tensor that has ``rows``."""
        cut = self.cut_of(name)
        if cut is None or cut.dim != 0:
            return rows
        return sum(end - start for start, end in cut.ranges(rows, self.rank, self.size, name))


def gather_shares(part: Tensor, length: int, comm: Communicator, *, everywhere: bool) -> Tensor:
    """Put a last dimension of ``length`` together that is cut in rows (:func:`share`).

    Args:
        part: this rank's share. everywhere: else rank 0 alone gets the whole, and the others ``part``.
    """
    if comm.size == 1:
        return part
    sizes = [end - start for start, end in (share(length, rank, comm.size) for rank in range(comm.size))]
    padded = part if part.shape[-1] == sizes[0] else F.pad(part, (0, sizes[0] - part.shape[-1]))
    whole = comm.all_gather(padded) if everywhere else comm.gather(padded)
    if sizes[0] == sizes[-1]:
        return whole
    if whole is padded or whole.shape[-1] == sizes[0]:
        return part
    return torch.cat([p[..., :size] for p, size in zip(whole.chunk(comm.size, -1), sizes, strict=True)], -1)
