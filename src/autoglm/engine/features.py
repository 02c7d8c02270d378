"""Visual features as bytes: tensors with their shapes and formats, exact to the bit; nothing is unpickled."""

from __future__ import annotations

import struct
from math import prod

import msgspec
import torch

from autoglm.cache.host import HostTier
from autoglm.model.context import ImageFeatures

_LENGTH = struct.Struct("<I")
_DTYPES = {str(t): t for t in (torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.bool)}


class _Tensor(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]


def pack(features: ImageFeatures) -> bytes:
    """A header (shapes and formats as JSON, after its length), then the tensors' bytes."""
    header = msgspec.json.encode([_Tensor(str(t.dtype), tuple(t.shape)) for t in features.tensors])
    parts = [_LENGTH.pack(len(header)), header]
    for tensor in features.tensors:
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        parts.append(raw.numpy().tobytes())
    return b"".join(parts)


def unpack(payload: memoryview, device: torch.device) -> ImageFeatures | None:
    """``None`` if the bytes are not what :func:`pack` wrote."""
    try:
        (length,) = _LENGTH.unpack_from(payload)
        specs = msgspec.json.decode(payload[_LENGTH.size : _LENGTH.size + length], type=list[_Tensor])
        raw = bytearray(payload[_LENGTH.size + length :])
        dtypes = [_DTYPES[spec.dtype] for spec in specs]
    except (struct.error, msgspec.MsgspecError, KeyError):
        return None
    sizes = [prod(spec.shape) * dtype.itemsize for spec, dtype in zip(specs, dtypes, strict=True)]
    if sum(sizes) != len(raw) or any(n < 0 for spec in specs for n in spec.shape):
        return None
    tensors = []
    position = 0
    for spec, dtype, size in zip(specs, dtypes, sizes, strict=True):
        part = raw[position : position + size]
        flat = torch.frombuffer(part, dtype=dtype) if size else torch.empty(0, dtype=dtype)
        tensors.append(flat.view(spec.shape).to(device))
        position += size
    return ImageFeatures(tuple(tensors))


class HostFeatures:
    """The host tier as the level below the visual cache: its arena holds features beside KV blocks."""

    def __init__(self, host: HostTier, device: torch.device) -> None:
        self._host = host
        self._device = device

    def spill(self, name: bytes, value: ImageFeatures) -> None:
        """Copy it out, unless it is out already."""
        if name not in self._host.store:
            self._host.keep(name, pack(value))

    def recall(self, name: bytes) -> ImageFeatures | None:
        """Copy it in."""
        payload = self._host.read(name)
        return None if payload is None else unpack(memoryview(payload), self._device)
