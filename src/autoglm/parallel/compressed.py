"""A communicator that sends large sums in fewer bytes where the link is slow enough for that to pay."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from autoglm.parallel.codecs.choose import FORMATS, Form, LinkSpeed, choose, measure_link
from autoglm.parallel.codecs.codes import Format
from autoglm.parallel.codecs.kernels import Kernels
from autoglm.parallel.codecs.two_step import TwoStepSum
from autoglm.parallel.collectives import Communicator, Handle

CALIBRATION = 4
"""Large sums of one width that travel exactly, before their channels' scales are fixed."""


@dataclass(slots=True)
class CompressionStats:
    """Large and small sums so far, by form.

    Attributes:
        messages: by form.
        plain_bytes, sent_bytes: of those sums, as float32 and in the form they went in.
    """

    messages: dict[Form, int] = field(default_factory=dict)
    plain_bytes: int = 0
    sent_bytes: float = 0.0

    def count(self, form: Form, nbytes: int) -> None:
        self.messages[form] = self.messages.get(form, 0) + 1
        self.plain_bytes += nbytes
        ratio = {"exact": 1.0, "bf16": 2.0}.get(form) or FORMATS[form].ratio()
        self.sent_bytes += nbytes / ratio


class ChannelScales:
    """One scale a channel, from the first sums of a width: every rank sees the same sums, so nothing is sent.

    The mean of absolute values, not the highest: one wild token must not set the scale of the others.
    """

    def __init__(self, width: int, needed: int = CALIBRATION) -> None:
        self._total = torch.zeros(width, dtype=torch.float64)
        self._rows = 0
        self._missing = needed

    def observe(self, rows: Tensor) -> Tensor | None:
        """Take the sums ``[rows, width]`` in; the scales once enough were seen."""
        self._total += rows.detach().abs().double().sum(0)
        self._rows += len(rows)
        self._missing -= 1
        return None if self._missing > 0 else scales_of(self._total / self._rows)


def scales_of(size: Tensor) -> Tensor:
    """Scales ``[width]`` from the channels' mean absolute values; a silent channel counts as a very small one."""
    size = size.nan_to_num(0.0, 0.0, 0.0)
    typical = size.mean()
    if typical < torch.finfo(torch.float32).tiny:
        return torch.ones(len(size))
    return (size.clamp_min(typical * 1e-3) / typical).float()


class CompressedCommunicator(Communicator):
    """Sums in the form :func:`~autoglm.parallel.codecs.choose.choose` names; all else as ``inner`` does it.

    All ranks hold equal bits after a sum, in every form. float32, bfloat16 and float16 CPU tensors; others go as they
    are. With the default nothing is ever sent in a lossy form.

    Args:
        inner: carries the bytes.
        allowed: the least exact form that may be used; float32 sums may be rounded to it on the wire.
        link: ``None``: measured now, which is a collective operation.
        channel_scales: calibrate a scale a channel on the first sums of each width (the last dimension).
    """

    def __init__(
        self,
        inner: Communicator,
        allowed: Form = "exact",
        *,
        link: LinkSpeed | None = None,
        channel_scales: bool = True,
    ) -> None:
        self.inner = inner
        self.rank, self.size = inner.rank, inner.size
        self.allowed = allowed
        self.link = link
        if link is None and allowed != "exact" and inner.size > 1:
            self.link = measure_link(inner)
        self.stats = CompressionStats()
        self._calibrate = channel_scales
        self._watching: dict[int, ChannelScales] = {}
        self._sums: dict[tuple[Form, int], TwoStepSum] = {}
        self._scales: dict[int, Tensor] = {}

    def all_reduce(self, tensor: Tensor) -> Tensor:
        form = self._form(tensor)
        self.stats.count(form, 4 * tensor.numel())
        if form == "exact":
            return self.inner.all_reduce(tensor)
        if form == "bf16":
            return self.inner.all_reduce(tensor.to(torch.bfloat16)).to(tensor.dtype)
        width = tensor.shape[-1]
        if self._calibrate and width not in self._scales:
            return self._observed(self.inner.all_reduce(tensor), width)
        flat = tensor.contiguous().float().view(-1)
        return self._sum(form, width)(flat).view(tensor.shape).to(tensor.dtype)

    def all_gather(self, tensor: Tensor, dim: int = -1) -> Tensor:
        return self.inner.all_gather(tensor, dim)

    def broadcast(self, tensor: Tensor, source: int = 0) -> Tensor:
        return self.inner.broadcast(tensor, source)

    def isend(self, tensor: Tensor, to: int) -> Handle:
        return self.inner.isend(tensor, to)

    def irecv(self, tensor: Tensor, source: int) -> Handle:
        return self.inner.irecv(tensor, source)

    def barrier(self) -> None:
        self.inner.barrier()

    def close(self) -> None:
        self.inner.close()

    def _form(self, tensor: Tensor) -> Form:
        known = tensor.dtype in (torch.float32, torch.bfloat16, torch.float16) and tensor.device.type == "cpu"
        if self.link is None or self.allowed == "exact" or not known:
            return "exact"
        form = choose(self.link, 4 * tensor.numel(), self.allowed)
        # What is in 16 bits already gains nothing from bf16.
        return "exact" if form == "bf16" and tensor.dtype != torch.float32 else form

    def _observed(self, total: Tensor, width: int) -> Tensor:
        watching = self._watching.setdefault(width, ChannelScales(width))
        scales = watching.observe(total.reshape(-1, width))
        if scales is not None:
            self._scales[width] = scales
            del self._watching[width]
        return total

    def _sum(self, form: Form, width: int) -> TwoStepSum:
        """The model's widths are few, so this is bounded."""
        if (form, width) not in self._sums:
            plain = FORMATS[form]
            exact = Format(plain.bits, plain.group, self._scales.get(width))
            self._sums[form, width] = TwoStepSum(self.inner, Kernels(exact))
        return self._sums[form, width]
