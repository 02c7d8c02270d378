"""The host tier of an engine: how large, and from how many blocks on a copy beats computing again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import torch

from autoglm.cache import ImageOrdinals
from autoglm.cache.host import ChainNames, HostTier
from autoglm.cache.host.transfer import TensorTransfer
from autoglm.engine.config import EngineConfig
from autoglm.errors import InvalidInputError
from autoglm.model.context import ForwardContext, KVStore, SequenceSlice
from autoglm.model.identity import weights_identity
from autoglm.model.registry import Model

log = logging.getLogger(__name__)
_BLOCKS = 8
_REPEATS = 3


def host_tier(
    config: EngineConfig, model: Model, store: KVStore, ordinals: ImageOrdinals
) -> tuple[HostTier | None, BreakEven | None]:
    """The tier the options ask for, ``None`` if it is off; and what was measured for it, unless options say.

    Raises:
        InvalidInputError: not even one block fits.
    """
    if not config.host_kv_bytes or not config.prefix_caching:
        return None, None
    page = model.kv_spec.bytes_per_token * config.block_size
    pages = config.host_kv_bytes // page
    if pages < 1:
        raise InvalidInputError(
            f"host_kv_bytes {config.host_kv_bytes} is less than one block of {page} bytes",
            field="host_kv_bytes",
            limit=page,
            value=config.host_kv_bytes,
        )
    transfer = TensorTransfer(store.keys, store.values, config.block_size, pages)
    found = None
    if not config.host_kv_min_blocks:
        found = measure(model, store, transfer, config.block_size, pages)
        log.info("host KV: %s", found)
    identity = b""
    if config.kv_disk_directory or config.kv_redis_url:
        start = time.perf_counter()
        identity = weights_identity(model) + repr(("kv", model.kv_spec, config.block_size)).encode()
        log.info("shared KV: the weights' identity was computed in %.1f s", time.perf_counter() - start)
    tier = HostTier(
        ChainNames(identity, ordinals),
        transfer,
        pages=pages,
        page_bytes=page,
        min_blocks=found.min_blocks(pages) if found else config.host_kv_min_blocks,
    )
    return tier, found


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Seconds: a batch of copies costs ``fixed + n * copy``, computing ``n`` blocks more in a step ``n * compute``."""

    fixed: float
    copy: float
    compute: float

    def min_blocks(self, most: int) -> int:
        """From how many blocks on loading is cheaper; ``most + 1``: never."""
        gain = self.compute - self.copy
        return min(most + 1, max(1, ceil(self.fixed / gain))) if gain > 0 else most + 1

    def __str__(self) -> str:
        return (
            f"a block is loaded in {self.copy * 1e3:.3f} ms (and {self.fixed * 1e3:.3f} ms a batch), "
            f"computed in {self.compute * 1e3:.3f} ms: loaded from {self.min_blocks(10**6)} on"
        )


def measure(model: Model, store: KVStore, transfer: TensorTransfer, block_size: int, pages: int) -> BreakEven:
    """Time both on this model, on blocks nobody uses yet (the first of the pool and of the arena)."""
    count = min(_BLOCKS, pages, store.keys.shape[2] // block_size)

    def load(blocks: int) -> None:
        transfer.exchange([], [(i, i) for i in range(blocks)])

    def compute(blocks: int) -> None:
        _prefill(model, store, blocks * block_size)

    transfer.exchange([(i, i) for i in range(count)], [])
    fixed, copy = _line(load, count, model.device)
    _, step = _line(compute, count, model.device)
    return BreakEven(fixed=fixed, copy=copy, compute=step)


def _line(call: Callable[[int], None], count: int, device: torch.device) -> tuple[float, float]:
    """Seconds of a batch and seconds of each block in it."""
    one, many = _best(call, 1, device), _best(call, count, device)
    each = max(0.0, (many - one) / (count - 1)) if count > 1 else one
    return max(0.0, one - each), each


def _best(call: Callable[[int], None], blocks: int, device: torch.device) -> float:
    times: list[float] = []
    for _ in range(_REPEATS + 1):  # the first warms up
        start = time.perf_counter()
        call(blocks)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])


@torch.inference_mode()
def _prefill(model: Model, store: KVStore, tokens: int) -> None:
    device = model.device
    slots = torch.arange(tokens, device=device)
    context = ForwardContext(
        positions=slots.expand(3, -1),
        new_slots=slots,
        sequences=[SequenceSlice(0, tokens, tokens, slots, 0)],
        kv=store,
        output_rows=slots[-1:],
    )
    hidden = model.embed_tokens(torch.zeros(tokens, dtype=torch.int64, device=device))
    model.forward(hidden, context)
