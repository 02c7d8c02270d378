"""Whole random-weight checkpoints: tokenizer, template, processor and weights in one folder."""

from __future__ import annotations

from pathlib import Path

from autoglm.model.autoglm_phone.synthetic import write_phone_weights
from autoglm.model.synthetic import SIZES, synthetic_config, write_weights
from autoglm.prompt.synthetic import write_tokenizer

STOP_TOKENS = ("<|endoftext|>", "<|user|>", "<|observation|>", "</answer>")


def make_checkpoint(
    directory: Path, size: str = "tiny", *, seed: int = 0, context: int = 32768, max_shard_bytes: int | None = None
) -> Path:
    """Write a checkpoint in the published layout; the same arguments give the same bytes.

    Args:
        size: ``tiny`` (8 M parameters), ``small`` (119 M) or ``mid`` (507 M).
        context: ``max_position_embeddings``.
        max_shard_bytes: split the weights into shards of at most this size.
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {', '.join(SIZES)}, got {size!r}")
    directory.mkdir(parents=True, exist_ok=True)
    token_ids = write_tokenizer(directory)
    config = synthetic_config(size, token_ids, [token_ids[t] for t in STOP_TOKENS], context=context)
    write_weights(directory, config, seed=seed, max_shard_bytes=max_shard_bytes)
    return directory


def make_phone_checkpoint(directory: Path, *, seed: int = 0, context: int = 8192) -> Path:
    """Write a tiny checkpoint of the described layout; the same arguments give the same bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    token_ids = write_tokenizer(directory)
    stops = [token_ids[t] for t in STOP_TOKENS]
    write_phone_weights(directory, seed=seed, token_ids=token_ids, stop_token_ids=stops, context=context)
    return directory
