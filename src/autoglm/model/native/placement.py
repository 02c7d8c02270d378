"""Weights in one piece of memory with huge pages: decoding reads them all for every token, and small pages cost it a
page walk every 4 kB."""

from __future__ import annotations

import logging
import mmap

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)
_ALIGNMENT = 64
_LEAST = 2**16
"""Bytes; smaller tensors stay where they are."""


def place(modules: list[nn.Module]) -> int:
    """Move the parameters and buffers of ``modules`` there, each freed as it is copied; the bytes moved.

    0 where the system has no huge pages to ask for, or not the memory.
    """
    tensors = {t.data_ptr(): t for module in modules for t in (*module.parameters(), *module.buffers())}
    chosen = [t for t in tensors.values() if t.nbytes >= _LEAST and t.is_contiguous() and not _is_view(t)]
    size = sum(_padded(t) for t in chosen)
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is None or not size:
        return 0
    try:
        # The tensors keep it alive; it is unmapped with the last of them.
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(advice)
    except OSError as error:
        log.info("weights stay in small pages: %s", error)
        return 0
    arena, start = torch.frombuffer(memory, dtype=torch.uint8), 0
    for tensor in chosen:
        target = arena[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        target.copy_(tensor.detach())
        tensor.data = target
        start += _padded(target)
    return size


def _padded(tensor: Tensor) -> int:
    return -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT


def _is_view(tensor: Tensor) -> bool:
    """Whether its memory is only part of a larger piece, which moving it would not free."""
    return tensor.untyped_storage().nbytes() > 2 * tensor.nbytes
