"""What packing costs: how the answers' distribution moves on given prompts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from autoglm.model.context import ForwardContext, KVStore, SequenceSlice
from autoglm.model.native.decoder import BlockList, NativeDecoder
from autoglm.model.native.description import Sizes, unfit
from autoglm.model.native.library import library
from autoglm.model.registry import Model

_ROWS = 16


@dataclass(frozen=True, slots=True)
class Quality:
    """Over all positions of all prompts, of packed weights against the originals.

    Attributes:
        mean_divergence, high_divergence: Kullback-Leibler divergence of the next-token distribution in nats; its mean
            and its 99th percentile.
        agreement: share of positions with the same most likely token.
    """

    positions: int
    mean_divergence: float
    high_divergence: float
    agreement: float


@torch.inference_mode()
def compare(exact: Model, packed: Model, prompts: Iterable[Sequence[int]], *, kernels: bool = True) -> Quality:
    """Run token ids without images through both.

    Args:
        kernels: run the packed one as decoding does, where it can: what the kernels round is then part of it.
    """
    kernels = kernels and library() is not None and unfit(packed) is None
    divergences: list[Tensor] = []
    same: list[Tensor] = []
    for ids in prompts:
        expected = _log_probabilities(exact, ids)
        found = _decoded(packed, ids) if kernels else _log_probabilities(packed, ids)
        divergences.append(F.kl_div(found, expected, reduction="none", log_target=True).sum(-1).clamp_min(0))
        same.append(expected.argmax(-1) == found.argmax(-1))
    divergence, equal = torch.cat(divergences), torch.cat(same)
    return Quality(
        positions=len(divergence),
        mean_divergence=float(divergence.mean()),
        high_divergence=float(divergence.quantile(0.99)),
        agreement=float(equal.float().mean()),
    )


def _decoded(model: Model, ids: Sequence[int]) -> Tensor:
    """The same on the kernels, some rows a step."""
    count = len(ids)
    kv = KVStore(model.kv_spec, count, model.device)
    positions, _ = model.rope_positions(count, [])
    decoder = NativeDecoder(model, kv, Sizes(_ROWS, count, count, torch.get_num_threads()))
    blocks = BlockList(1)
    blocks.extend_to([0])
    parts: list[Tensor] = []
    for start in range(0, count, _ROWS):
        for at in range(start, min(start + _ROWS, count)):
            first, second, third = positions[:, at].tolist()
            decoder.put(ids[at], (first, second, third), at + 1, blocks)
        parts.append(torch.log_softmax(decoder.run(), dim=-1))
    decoder.close()
    return torch.cat(parts)


def _log_probabilities(model: Model, ids: Sequence[int]) -> Tensor:
    count = len(ids)
    kv = KVStore(model.kv_spec, count, model.device)
    positions, _ = model.rope_positions(count, [])
    context = ForwardContext(positions, torch.arange(count), [SequenceSlice(0, count, count, None, 0)], kv)
    logits = model.compute_logits(model.forward(model.embed_tokens(torch.tensor(list(ids))), context))
    return torch.log_softmax(logits, dim=-1)
