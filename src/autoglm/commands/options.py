"""Engine options on the command line, made from :class:`EngineConfig` itself."""

from __future__ import annotations

import argparse
from typing import Any

import msgspec

from autoglm.engine import EngineConfig

_CHOICES = {
    "dtype": ("auto", "float32", "bfloat16", "float16"),
    "quantization": ("none", "int8", "int4"),
    "content_format": ("openai", "string"),
}
_HELP = {
    "device": "auto, cpu, cuda or cuda:N",
    "dtype": "auto: the checkpoint's on CUDA, float32 on CPU",
    "quantization": "weights of the decoder in 8 or 4 bits, on the CPU",
    "threads": "torch threads; 0: torch's choice",
    "context_length": "cap on prompt + answer",
    "kv_cache_bytes": "paged KV memory",
    "max_batch_tokens": "rows of one step",
    "content_format": "what the chat template gets: a content list, or one string with images first",
    "max_pixels": "images above this are scaled down",
    "prefix_caching": "reuse KV of equal prefixes",
    "native_decode": "decode on the compiled kernels where they fit",
    "huge_pages": "weights of the decoder in huge pages",
    "integer_products": "packed weights times rows rounded to 8 bits, where the CPU can",
    "host_kv_bytes": "host memory for KV blocks that leave the pool; 0: off",
    "lookahead": "waiting requests whose cached blocks are evicted last; 0: off",
    "kv_disk_directory": "folder for KV blocks that outlive the process; needs host_kv_bytes",
    "kv_redis_url": "Redis for KV blocks shared by replicas; needs host_kv_bytes; password: AUTOGLM_REDIS_PASSWORD",
    "kv_fetch_ms": "longest wait of a prompt for disk or Redis",
    "share_features": "visual features go to disk and Redis, too",
    "host_kv_min_blocks": "compute fewer blocks again rather than load them; 0: measured at start",
}


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """One ``--option`` per field of :class:`EngineConfig`; a boolean gets ``--no-`` too."""
    group = parser.add_argument_group("engine")
    for field in msgspec.structs.fields(EngineConfig):
        flag = "--" + field.name.replace("_", "-")
        text = f"{_HELP.get(field.name, field.name.replace('_', ' '))} (default: {field.default})"
        if isinstance(field.default, bool):
            group.add_argument(flag, action=argparse.BooleanOptionalAction, default=field.default, help=text)
        elif isinstance(field.default, str):
            group.add_argument(flag, default=field.default, choices=_CHOICES.get(field.name), help=text)
        else:
            group.add_argument(flag, type=int, default=field.default, help=text)


def engine_config(options: argparse.Namespace) -> EngineConfig:
    """The engine's part of parsed options."""
    values: dict[str, Any] = {f.name: getattr(options, f.name) for f in msgspec.structs.fields(EngineConfig)}
    return EngineConfig(**values)
