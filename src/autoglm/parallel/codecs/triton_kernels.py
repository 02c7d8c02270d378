"""The 8-bit codes as Triton kernels, for CUDA tensors; a program codes some groups, the message stays on the device.

Layout and rounding are those of :mod:`autoglm.parallel.codecs.codes`, bit by bit. Triton is imported only where it is
there and a device is present: :func:`available` says so. :func:`encode_groups` and :func:`decode_groups` are the same
mathematics, statement by statement, on whole tensors: what the kernels do to one group, tested on any machine.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from autoglm.errors import InvalidInputError
from autoglm.parallel.codecs.codes import Format

_ABSOLUTE = 0x7FFFFFFF
_INFINITE = 0x7F800000
_NOT_A_NUMBER = 0x7FC0
_SMALLEST = 0x0080
_GROUPS = 32
"""Groups of one program: enough loads under way to fill the memory's pipes."""
_MAGIC = 12582912.0
"""1.5 * 2^23: adding it leaves the nearest whole number in the low bits, ties to even."""


def available() -> bool:
    """Whether kernels can run here."""
    return torch.cuda.is_available() and find_spec("triton") is not None


def encode_groups(x: Tensor, top: int = 127) -> tuple[Tensor, Tensor]:
    """float32 ``[groups, group]`` to int8 codes of that shape and bfloat16 scales ``[groups]``, as bits in int16."""
    highest = (x.view(torch.int32) & _ABSOLUTE).amax(1)
    finite = highest < _INFINITE
    raised = (((highest.view(torch.float32) / top).view(torch.int32) + 0xFFFF) >> 16) & 0xFFFF
    usable = finite & (raised >= _SMALLEST)
    inverse = torch.where(usable, 1.0 / (raised << 16).view(torch.float32), 0.0)
    shifted = torch.where(finite[:, None], x, 0.0) * inverse[:, None] + _MAGIC
    codes = (shifted.view(torch.int32) & 0xFF).to(torch.uint8).view(torch.int8)
    scales = torch.where(finite, torch.where(usable, raised, 0), _NOT_A_NUMBER)
    return codes, scales.to(torch.int16)


def decode_groups(codes: Tensor, scales: Tensor) -> Tensor:
    """The inverse: float32 ``[groups, group]``."""
    steps = (scales.to(torch.int32) << 16).view(torch.float32)
    return codes.float() * steps[:, None]


def encode(form: Format, values: Tensor) -> Tensor:
    """Code a CUDA message of whole groups of float32; uint8 ``[form.nbytes(len(values))]`` on the same device.

    Raises:
        InvalidInputError: no kernels here, 4 bits, channel scales, or a part of a group.
    """
    _check(form, len(values))
    groups = len(values) // form.group
    out = torch.empty(form.nbytes(len(values)), dtype=torch.uint8, device=values.device)
    codes = out[: len(values)].view(torch.int8)
    scales = out[len(values) :].view(torch.int16)
    grid = (-(-groups // _GROUPS),)
    _kernels()["encode"][grid](values, codes, scales, groups, GROUP=form.group, GROUPS=_GROUPS)
    return out


def decode(form: Format, coded: Tensor, count: int, out: Tensor | None = None) -> Tensor:
    """The ``count`` values; added to ``out`` if that is given (the owner's sum), else written to a new tensor.

    Raises:
        InvalidInputError: as :func:`encode`.
    """
    _check(form, count)
    add = out is not None
    target = torch.empty(count, device=coded.device) if out is None else out
    codes, scales = coded[:count].view(torch.int8), coded[count:].view(torch.int16)
    groups = count // form.group
    grid = (-(-groups // _GROUPS),)
    _kernels()["decode"][grid](codes, scales, target, groups, GROUP=form.group, GROUPS=_GROUPS, ADD=add)
    return target


def _check(form: Format, count: int) -> None:
    if not available():
        raise InvalidInputError("the Triton kernels need CUDA and triton", field="device")
    whole = count % form.group == 0 and form.group & (form.group - 1) == 0
    if form.bits != 8 or form.channel is not None or not whole:
        raise InvalidInputError(
            f"the Triton kernels code whole groups of 8 bits, a power of two long; got {count} values in {form.group}s",
            field="format",
            value=count,
        )


@cache
def _kernels() -> dict[str, Any]:
    """Compiled on first use. Triton reads the functions' source, so they are written out here."""
    import triton
    import triton.language as tl

    @triton.jit  # type: ignore[untyped-decorator, unused-ignore]
    def encode_kernel(x, codes, scales, count, GROUP: tl.constexpr, GROUPS: tl.constexpr):  # type: ignore[no-untyped-def] # noqa: N803
        group = tl.program_id(0).to(tl.int64) * GROUPS + tl.arange(0, GROUPS)
        real = group < count
        at = group[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
        values = tl.load(x + at, mask=real[:, None], other=0.0)
        highest = tl.max(values.to(tl.int32, bitcast=True) & 0x7FFFFFFF, axis=1)
        finite = highest < 0x7F800000
        ratio = tl.div_rn(highest.to(tl.float32, bitcast=True), 127.0)
        raised = ((ratio.to(tl.int32, bitcast=True) + 0xFFFF) >> 16) & 0xFFFF
        usable = finite & (raised >= 0x0080)
        step = (raised << 16).to(tl.float32, bitcast=True)
        inverse = tl.where(usable, tl.div_rn(1.0, step), 0.0)
        scaled = tl.where(finite[:, None], values, 0.0) * inverse[:, None]
        # The nearest whole number, ties to even, without a fused multiply-add that would round once less.
        whole = tl.extra.cuda.libdevice.rint(scaled)
        tl.store(codes + at, whole.to(tl.int8), mask=real[:, None])
        tl.store(scales + group, tl.where(finite, tl.where(usable, raised, 0), 0x7FC0).to(tl.int16), mask=real)

    @triton.jit  # type: ignore[untyped-decorator, unused-ignore]
    def decode_kernel(codes, scales, out, count, GROUP: tl.constexpr, GROUPS: tl.constexpr, ADD: tl.constexpr):  # type: ignore[no-untyped-def] # noqa: N803
        group = tl.program_id(0).to(tl.int64) * GROUPS + tl.arange(0, GROUPS)
        real = group < count
        at = group[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
        step = (tl.load(scales + group, mask=real, other=0).to(tl.int32) << 16).to(tl.float32, bitcast=True)
        values = tl.load(codes + at, mask=real[:, None], other=0).to(tl.float32) * step[:, None]
        if ADD:
            values += tl.load(out + at, mask=real[:, None], other=0.0)
        tl.store(out + at, values, mask=real[:, None])

    return {"encode": encode_kernel, "decode": decode_kernel}
