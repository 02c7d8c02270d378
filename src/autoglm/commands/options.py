"""Engine options on the command line, made from :class:`EngineConfig` itself."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import msgspec

from autoglm.agent.examples import answer_examples
from autoglm.engine import EngineConfig
from autoglm.errors import InvalidInputError
from autoglm.parallel.tuning.profile import mismatch, read_profile

log = logging.getLogger(__name__)

_CHOICES = {
    "dtype": ("auto", "float32", "bfloat16", "float16"),
    "quantization": ("none", "int8", "int4", "fp8"),
    "content_format": ("openai", "string"),
    "vision_parallel": ("tensor", "data", "sequence"),
    "paged_attention": ("auto", "kernel", "gather", "off"),
    "decode_graphs": ("auto", "eager", "off"),
    "compression": ("exact", "bf16", "int8", "int4"),
}
_HELP = {
    "device": "auto, cpu, cuda or cuda:N",
    "dtype": "auto: the checkpoint's on CUDA, float32 on CPU",
    "quantization": "weights of the decoder in 8 or 4 bits; int8 on the CPU, fp8 on CUDA, int4 on both",
    "threads": "torch threads; 0: torch's choice",
    "context_length": "cap on prompt + answer",
    "kv_cache_bytes": "paged KV memory",
    "max_batch_tokens": "rows of one step",
    "shared_memory": "ranks of one host sum over shared memory",
    "compression": "least exact form of large sums between hosts, used where a slow link makes it pay",
    "content_format": "what the chat template gets: a content list, or one string with images first",
    "max_pixels": "images above this are scaled down",
    "share_prompts": "share long tokenised texts and scaled screens with other replicas, where there is a Redis",
    "prompt_redis_url": "that Redis; serve takes --redis-url for it",
    "prompt_namespace": "replicas that share; serve takes --cache-namespace for it",
    "prefix_caching": "reuse KV of equal prefixes",
    "speculation": "draft tokens and verify several in a step; the answers are the same",
    "draft_tokens": "drafted of one sequence in a step at most",
    "early_encode": "encode an image while the text of its prompt is still being tokenised",
    "idle_prefill": "while a phone acts, compute what its next prompt is expected to begin with",
    "idle_step_ms": "longest step of that; so long a request may have to wait for it",
    "evict_dropped": "evict first what only images need that the dialogue no longer shows",
    "native_decode": "decode on the compiled kernels where they fit",
    "native_prefill": "prefill on the compiled kernels where they fit",
    "packed_kernels": "on CUDA, decode with packed weights by kernel",
    "fused_layers": "on CUDA, fuse what stands between a layer's products",
    "paged_attention": "decode on CUDA through block tables: by kernel, by gathering, the quicker one, or not",
    "decode_graphs": "record decode steps as CUDA graphs; eager: the same steps, not recorded",
    "encoder_graphs": "screen sizes whose encoding is kept recorded on CUDA; 0: off",
    "graph_bytes": "device memory that recorded decode steps may keep, and encoders as much again",
    "tensor_parallel_size": "ranks (processes) that share every layer",
    "vision_parallel": "what ranks share of the vision tower: its heads, a batch's images, or an image's patches",
    "rank_timeout": "seconds without a sign of life after which a rank counts as lost",
    "huge_pages": "weights of the decoder in huge pages",
    "integer_products": "packed weights times rows rounded to 8 bits, where the CPU can",
    "host_kv_bytes": "host memory for KV blocks that leave the pool; 0: off",
    "lookahead": "waiting requests whose cached blocks are evicted last; 0: off",
    "kv_disk_directory": "folder for KV blocks that outlive the process; needs host_kv_bytes",
    "kv_redis_url": "Redis for KV blocks shared by replicas; needs host_kv_bytes; password: AUTOGLM_REDIS_PASSWORD",
    "kv_fetch_ms": "longest wait of a prompt for disk or Redis",
    "share_features": "visual features go to disk and Redis, too",
    "pipeline_parallel_size": "stages of consecutive layers, each of --tensor-parallel-size ranks",
    "pipeline_bounds": "first layer of each stage, as 0,18; empty: balanced by times measured at the start",
    "pipeline_micro_batches": "of one step's prefill; 0: two a stage",
    "pipeline_in_flight": "micro-batches at once over which running sequences are split; 0: one a stage",
    "host_kv_min_blocks": "compute fewer blocks again rather than load them; 0: measured at start",
}
_FIELDS = [field for field in msgspec.structs.fields(EngineConfig) if field.name != "draft_examples"]


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """One ``--option`` per field of :class:`EngineConfig`; a boolean gets ``--no-`` too."""
    group = parser.add_argument_group("engine")
    for field in _FIELDS:
        flag = "--" + field.name.replace("_", "-")
        text = f"{_HELP.get(field.name, field.name.replace('_', ' '))} (default: {field.default})"
        if isinstance(field.default, bool):
            group.add_argument(flag, action=argparse.BooleanOptionalAction, default=field.default, help=text)
        elif isinstance(field.default, str):
            group.add_argument(flag, default=field.default, choices=_CHOICES.get(field.name), help=text)
        else:
            kind = float if isinstance(field.default, float) else int
            group.add_argument(flag, type=kind, default=field.default, help=text)


def engine_config(options: argparse.Namespace, profile: Path | None = None) -> EngineConfig:
    """The engine's part of parsed options. What answers look like, the engine learns from the agent's grammar.

    Args:
        profile: what ``autoglm tune`` wrote. It stands in for options that were left at their defaults.
    """
    values: dict[str, Any] = {f.name: getattr(options, f.name) for f in _FIELDS}
    if profile is not None:
        tuned = _tuned(profile)
        values |= {f.name: tuned[f.name] for f in _FIELDS if f.name in tuned and values[f.name] == f.default}
    return EngineConfig(**values, draft_examples=tuple(answer_examples()) if options.speculation else ())


def _tuned(file: Path) -> dict[str, int]:
    profile = read_profile(file)
    unknown = set(profile.engine) - {f.name for f in msgspec.structs.fields(EngineConfig)}
    if unknown:
        raise InvalidInputError(
            f"--profile: {file} sets {', '.join(sorted(unknown))}, which this engine does not have", field="profile"
        )
    if (other := mismatch(profile)) is not None:
        log.warning("%s: %s; run autoglm tune here", file, other)
    return profile.engine
