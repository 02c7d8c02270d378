"""Weights in one piece of memory with huge pages: decoding reads them all for every token, and small pages cost it a
page walk every 4 kB."""

from __future__ import annotations

import logging
import math
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)
Kind = tuple[tuple[int, ...], torch.dtype]
"""Shape and dtype of a tensor."""
_ALIGNMENT = 64
_LEAST = 2**16
"""Bytes; smaller tensors stay where they are."""


def place(modules: list[nn.Module]) -> int:
    """Move the parameters and buffers of ``modules`` there, each freed as it is copied; the bytes moved.

    0 where the system has no huge pages to ask for, or not the memory.
    """
    tensors = {t.data_ptr(): t for module in modules for t in (*module.parameters(), *module.buffers())}
    chosen = [t for t in tensors.values() if t.nbytes >= _LEAST and t.is_contiguous() and not _is_view(t)]
    size = sum(_padded(t.nbytes) for t in chosen)
    piece = huge_piece(size)
    if piece is None:
        return 0
    for tensor, target in zip(chosen, cut(piece, [(tuple(t.shape), t.dtype) for t in chosen]), strict=True):
        target.copy_(tensor.detach())
        tensor.data = target
    return size


def huge_piece(size: int) -> Tensor | None:
    """Bytes in huge pages, untouched so far; ``None`` where the system has none to ask for, or not the memory."""
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is None or not size:
        return None
    try:
        # The tensors keep it alive; it is unmapped with the last of them.
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(advice)
    except OSError as error:
        log.info("weights stay in small pages: %s", error)
        return None
    return torch.frombuffer(memory, dtype=torch.uint8)


def cut(piece: Tensor, kinds: Sequence[Kind]) -> list[Tensor]:
    """A piece of bytes as tensors of these kinds, one after the other."""
    found, start = [], 0
    for shape, dtype in kinds:
        size = bytes_of((shape, dtype))
        found.append(piece[start : start + size].view(dtype).view(shape))
        start += _padded(size)
    return found


def bytes_in_all(kinds: Sequence[Kind]) -> int:
    """What :func:`cut` needs."""
    return sum(_padded(bytes_of(kind)) for kind in kinds)


def bytes_of(kind: Kind) -> int:
    """Of one tensor."""
    shape, dtype = kind
    return math.prod(shape) * dtype.itemsize


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _is_view(tensor: Tensor) -> bool:
    """Whether its memory is only part of a larger piece, which moving it would not free."""
    return tensor.untyped_storage().nbytes() > 2 * tensor.nbytes
