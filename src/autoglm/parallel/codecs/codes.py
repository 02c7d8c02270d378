"""8- and 4-bit codes with a scale a group, for sums on the wire: layout, sizes, and the mathematics in torch.

A coded run of values: the codes of all groups, then one bfloat16 scale a group. Scales are rounded up, so that no code
passes the top. With channel scales (one fixed number a hidden channel, known to every rank), values are divided by
their channel's scale first: an outlier channel then no longer coarsens its 127 neighbours, and nothing more is sent.

The functions here are the reference that the C kernels (:mod:`autoglm.parallel.codecs.kernels`) equal bit by bit, and
what runs where they were not built.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from autoglm.errors import InvalidInputError

MAX_GROUP = 1024
_SMALLEST_STEP = 2.0**-126
_NOT_A_NUMBER = 0x7FC0


@dataclass(frozen=True, slots=True)
class Format:
    """How values are coded.

    Attributes:
        bits: 8 or 4.
        group: values that share a scale; even.
        channel: float32 ``[columns]``, positive: scale of each hidden channel, the same on every rank; ``None``: none.
        inverse: ``1 / channel``, rounded once, so that all hosts divide alike.
    """

    bits: int
    group: int
    channel: Tensor | None = None
    inverse: Tensor | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.bits not in (8, 4):
            raise InvalidInputError(f"codes have 8 or 4 bits, not {self.bits}", field="bits", value=self.bits)
        if self.group % 2 or not 2 <= self.group <= MAX_GROUP:
            raise InvalidInputError(
                f"a group has an even number of values from 2 to {MAX_GROUP}, not {self.group}",
                field="group",
                limit=MAX_GROUP,
                value=self.group,
            )
        if self.channel is not None:
            channel = self.channel.detach().to("cpu", torch.float32).contiguous()
            if channel.ndim != 1 or not bool(((channel > 0) & channel.isfinite()).all()):
                raise InvalidInputError("channel scales are a vector of positive numbers", field="channel")
            object.__setattr__(self, "channel", channel)
            object.__setattr__(self, "inverse", 1 / channel)

    @property
    def top(self) -> int:
        """The highest code."""
        return 127 if self.bits == 8 else 7

    def code_bytes(self, count: int) -> int:
        """Bytes of the codes of ``count`` values."""
        return count if self.bits == 8 else (count + 1) // 2

    def nbytes(self, count: int) -> int:
        """Bytes on the wire of ``count`` values."""
        return self.code_bytes(count) + 2 * -(-count // self.group)

    def ratio(self, bytes_per_value: int = 4) -> float:
        """Times fewer bytes than values of ``bytes_per_value`` bytes."""
        return bytes_per_value * self.group / self.nbytes(self.group)


INT8 = Format(8, 128)
INT4 = Format(4, 32)


def encode(form: Format, values: Tensor, start: int = 0) -> Tensor:
    """Code float32 ``values`` (one dimension). ``start``: index of the first in its message, for its channel.

    Returns uint8 ``[nbytes(len(values))]``. A group with a value that is not finite comes back as NaN.
    """
    count = len(values)
    if form.inverse is not None:
        values = values * _factors(form.inverse, start, count)
    groups = _grouped(values, form.group)
    highest = groups.abs().amax(-1)
    finite = groups.isfinite().all(-1)
    step = _rounded_up(torch.where(finite, highest, 0.0) / form.top)
    step = torch.where(step >= _SMALLEST_STEP, step, 0.0)
    inverse = torch.where(step > 0, 1 / step, 0.0)
    codes = (groups.where(finite[:, None], torch.zeros(())) * inverse[:, None]).round().to(torch.int8).flatten()[:count]
    # Not by a conversion: which of the NaNs that makes depends on the machine.
    scales = torch.where(finite, step.view(torch.int32) >> 16, _NOT_A_NUMBER).to(torch.int16).view(torch.uint8)
    return torch.cat([_packed(form, codes), scales])


def decode(form: Format, coded: Tensor, count: int, start: int = 0) -> Tensor:
    """The ``count`` values of :func:`encode`; float32."""
    tail = form.code_bytes(count)
    steps = coded[tail:].clone().view(torch.bfloat16).float()
    codes = _unpacked(form, coded[:tail], count).float()
    values = (_grouped(codes, form.group) * steps[:, None]).flatten()[:count]
    if form.channel is not None:
        values = values * _factors(form.channel, start, count)
    return values


def reduce(form: Format, own: Tensor, peers: list[Tensor], start: int = 0) -> tuple[Tensor, Tensor]:
    """The owner's share of a sum: ``own`` plus what ``peers`` sent.

    Returns the coded sum, and the values that all others will decode from it (the owner uses them too, so that all
    ranks hold equal bits).
    """
    total = own.clone()
    for peer in peers:
        total += decode(form, peer, len(own), start)
    coded = encode(form, total, start)
    return coded, decode(form, coded, len(own), start)


def _factors(channel: Tensor, start: int, count: int) -> Tensor:
    return channel[(torch.arange(count) + start) % len(channel)]


def _grouped(values: Tensor, group: int) -> Tensor:
    """``[groups, group]``; the last is filled with zeros."""
    return torch.nn.functional.pad(values, (0, -len(values) % group)).view(-1, group)


def _rounded_up(values: Tensor) -> Tensor:
    """Positive float32 to the next bfloat16 at or above."""
    return ((values.view(torch.int32) + 0xFFFF) & -0x10000).view(torch.float32)


def _packed(form: Format, codes: Tensor) -> Tensor:
    if form.bits == 8:
        return codes.view(torch.uint8)
    low_and_high = torch.nn.functional.pad(codes, (0, len(codes) % 2)).view(torch.uint8).view(-1, 2) & 0xF
    return low_and_high[:, 0] | low_and_high[:, 1] << 4


def _unpacked(form: Format, codes: Tensor, count: int) -> Tensor:
    if form.bits == 8:
        return codes.view(torch.int8)
    both = torch.stack([(codes << 4).view(torch.int8) >> 4, codes.view(torch.int8) >> 4], -1)
    return both.flatten()[:count]
