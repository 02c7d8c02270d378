"""A small generation loop: each sequence has one contiguous run of KV slots, decoding is one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from autoglm.library.inputs import Prompt
from autoglm.model.context import ForwardContext, KVStore, SequenceSlice, VisualSpan
from autoglm.model.registry import Model

PREFILL_CHUNK = 2048
Choose = Callable[[Tensor], Tensor]
"""``[rows, vocab]`` fp32 logits -> int64 ``[rows]``."""


@dataclass(slots=True)
class _Run:
    """One sequence under way; ``done`` positions are in the KV store."""

    prompt: Prompt
    first_slot: int
    done: int = 0
    tokens: list[int] = field(default_factory=list)


@torch.inference_mode()
def generate(
    model: Model, prompts: Sequence[Prompt], max_new_tokens: int, stop_ids: Sequence[int], choose: Choose
) -> list[list[int]]:
    """New ids of each prompt; the stop id that ends one is not among them."""
    runs: list[_Run] = []
    slots = 0
    for prompt in prompts:
        runs.append(_Run(prompt, slots))
        slots += prompt.hidden.shape[0] + max_new_tokens
    kv = KVStore(model.kv_spec, slots, model.device)
    logits = torch.cat([_prefill(model, run, kv) for run in runs])
    active = runs
    while True:
        chosen = choose(logits).tolist()
        going: list[_Run] = []
        for run, token in zip(active, chosen, strict=True):
            if token in stop_ids:
                continue
            run.tokens.append(token)
            if len(run.tokens) < max_new_tokens:
                going.append(run)
        if not going:
            return [run.tokens for run in runs]
        active = going
        ids = torch.tensor([run.tokens[-1] for run in active], device=model.device)
        logits = model.compute_logits(_step(model, active, 1, model.embed_tokens(ids), kv))


def _prefill(model: Model, run: _Run, kv: KVStore) -> Tensor:
    hidden = run.prompt.hidden
    out = hidden
    for start in range(0, hidden.shape[0], PREFILL_CHUNK):
        rows = hidden[start : start + PREFILL_CHUNK]
        out = _step(model, [run], rows.shape[0], rows, kv)
    return model.compute_logits(out[-1:])


def _step(model: Model, runs: Sequence[_Run], count: int, hidden: Tensor, kv: KVStore) -> Tensor:
    """``count`` rows of each run, side by side."""
    slices, spans, positions, slots = [], [], [], []
    for row, run in zip(range(0, count * len(runs), count), runs, strict=True):
        begin, end = run.done, run.done + count
        slices.append(SequenceSlice(row, count, end, None, run.first_slot))
        slots.append(torch.arange(run.first_slot + begin, run.first_slot + end))
        known = run.prompt.positions.shape[1]
        late = torch.arange(begin, end).expand(3, -1) + run.prompt.delta
        positions.append(run.prompt.positions[:, begin:end] if end <= known else late)
        for first, last, features in run.prompt.sights:
            low, high = max(first, begin), end if last is None else min(last, end)
            if low < high:
                spans.append(VisualSpan(row + low - begin, row + high - begin, features))
        run.done = end
    device = model.device
    context = ForwardContext(torch.cat(positions, 1).to(device), torch.cat(slots).to(device), slices, kv, spans)
    return model.forward(hidden, context)
