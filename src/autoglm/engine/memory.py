"""How large the KV pool may be."""

from __future__ import annotations

import os

import torch

from autoglm.engine.config import EngineConfig
from autoglm.errors import InvalidInputError
from autoglm.model.registry import Model

_CONTEXTS = 8
_CPU_SHARE, _GPU_SHARE, _GRAPH_SHARE = 0.3, 0.9, 0.25


def kv_blocks(config: EngineConfig, model: Model) -> int:
    """Number of blocks that fit the configured (or a reasonable) size.

    Raises:
        InvalidInputError: not even one block fits.
    """
    spec = model.kv_spec
    # All stages of a pipeline have equally many blocks; the one with the most layers decides how many.
    layers = spec.num_layers if model.stage is None else model.stage.largest
    per_token = spec.bytes_per_token // spec.num_layers * layers
    per_block = per_token * config.block_size
    size = config.kv_cache_bytes
    if size is None:
        context = min(config.context_length or model.context_length, model.context_length)
        free = free_bytes(model.device) * (_GPU_SHARE if model.device.type == "cuda" else _CPU_SHARE)
        if model.device.type == "cuda" and config.decode_graphs == "auto":
            free -= min(config.graph_bytes, free * _GRAPH_SHARE)  # recorded steps keep theirs
        if model.device.type == "cpu":
            free /= config.world_size  # the ranks of one host share it
        size = min(int(free), _CONTEXTS * (context + config.block_size) * per_token)
    blocks = size // per_block
    if blocks < 1:
        raise InvalidInputError(
            f"kv_cache_bytes {size} is less than one block of {per_block} bytes",
            field="kv_cache_bytes",
            limit=per_block,
            value=size,
        )
    return blocks


def free_bytes(device: torch.device) -> int:
    """Memory that is free on the device now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    """Resident memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
