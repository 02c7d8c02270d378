"""Which form of paged attention a device gets: the kernel where it is right and quicker, measured when it starts."""

from __future__ import annotations

import logging
import time
from typing import Literal

import torch
from torch import Tensor

from autoglm.errors import InvalidInputError
from autoglm.model.context import KVStore
from autoglm.model.cuda import paged_kernel
from autoglm.model.paged import PagedAttention, PagedRows, gather

log = logging.getLogger(__name__)
Form = Literal["auto", "kernel", "gather", "off"]
_ROWS, _TOKENS, _REPEATS, _CALLS = 8, 2048, 5, 16
_TOLERANCE = 2e-2
"""Largest difference of the two forms on unit normal values in 16 bits: some roundings of weights and results."""


def paged_attention_of(form: Form, kv: KVStore, heads: int, kv_heads: int, block_size: int) -> PagedAttention:
    """The form that ``form`` asks for; ``auto``: by trial. The log says which, and why.

    Raises:
        InvalidInputError: the kernel is asked for, and cannot run here.
    """
    device = kv.keys.device
    reason = paged_kernel.unfit(heads, kv_heads, kv.spec.head_dim)
    if not paged_kernel.available(device):
        reason = "Triton or CUDA is missing"
    if form == "kernel" and reason is not None:
        raise InvalidInputError(
            f"paged_attention kernel cannot run here: {reason}", field="paged_attention", value="kernel"
        )
    if form == "kernel":
        return paged_kernel.paged_attention
    if form == "auto" and reason is None:
        reason = worse(kv, heads, block_size) if device.type == "cuda" else "there is no CUDA device"
        if reason is None:
            return paged_kernel.paged_attention
    if form == "auto":
        log.info("paged attention gathers: %s", reason)
    return gather


@torch.inference_mode()
def worse(kv: KVStore, heads: int, block_size: int) -> str | None:
    """Why the kernel should not be used, by trial on blocks nobody uses yet; ``None``: it is right, and quicker."""
    keys, values = kv.layer(kv.spec.first_layer)
    blocks = keys.shape[1] // block_size
    columns = max(1, min(blocks, _TOKENS // block_size))
    generator = torch.Generator().manual_seed(1)
    tables = torch.stack([torch.randperm(blocks, generator=generator)[:columns] for _ in range(_ROWS)])
    lengths = torch.randint(1, columns * block_size + 1, (_ROWS,), generator=generator)
    rows = PagedRows(tables.int().to(keys.device), lengths.to(keys.device), block_size, gather)
    q = torch.randn(_ROWS, heads, kv.spec.head_dim, generator=generator).to(keys)
    for tensor in (keys, values):
        # Only the blocks of the trial: pages of the pool that nobody wrote stay untouched.
        slots = (
            torch.unique(rows.tables).long()[:, None] * block_size + torch.arange(block_size, device=keys.device)
        ).flatten()
        tensor[:, slots] = torch.randn(tensor.shape[0], len(slots), tensor.shape[2], device=keys.device).to(keys)
    try:
        found = paged_kernel.paged_attention(q, keys, values, rows)
        difference = float((found.float() - gather(q, keys, values, rows).float()).abs().max())
        if not difference <= _TOLERANCE:
            return f"the kernel's results differ by {difference}"
        times = [_seconds(form, q, keys, values, rows) for form in (paged_kernel.paged_attention, gather)]
    except Exception as error:  # a compiler's errors are of its own kinds, and torch can go on without it
        return f"the kernel fails: {type(error).__name__}: {error}"
    log.info("paged attention of %d rows: kernel %.1f us, gathered %.1f us", _ROWS, *(t * 1e6 for t in times))
    return None if times[0] <= times[1] else "the kernel is slower"


def _seconds(form: PagedAttention, q: Tensor, keys: Tensor, values: Tensor, rows: PagedRows) -> float:
    """Best time of one call. On CUDA within a graph, as steps run it: queueing a kernel takes longer than it runs."""
    if not q.is_cuda:
        start = time.perf_counter()
        form(q, keys, values, rows)
        return time.perf_counter() - start
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        for _ in range(_CALLS):
            form(q, keys, values, rows)
    best = float("inf")
    for _ in range(_REPEATS):
        start = time.perf_counter()
        graph.replay()  # type: ignore[no-untyped-call, unused-ignore]
        torch.cuda.synchronize(q.device)
        best = min(best, (time.perf_counter() - start) / _CALLS)
    return best
