"""What coded sums do to a model's answers: next-token divergence and greedy agreement on real prompts.

The embedded model runs as two tensor-parallel ranks would, in one process: each row-parallel product is cut into the
ranks' partial products, and their sum goes through the codec's mathematics, bit by bit as on the wire.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoglm.agent.tasks.splits import SPLITS
from autoglm.agent.tasks.starts import new_start
from autoglm.messages import ChatMessage
from autoglm.model.loading import load_checkpoint
from autoglm.model.quantized.quality import Quality, compare
from autoglm.model.registry import Model
from autoglm.parallel.codecs.codes import INT4, INT8, Format
from autoglm.parallel.codecs.two_step import simulated
from autoglm.parallel.compressed import scales_of
from autoglm.prompt import PromptBuilder
from benchmarks.compression_worker import TOP_SHARE

GATE = 0.02
"""Nats of mean divergence: a form that moves answers further does not pass."""
_ROW_PARALLEL = ("o_proj", "down_proj")
FORMS = ("bf16", "int8", "int8, no channel scales", "int4", "top 10 %")


class RankedLinear(nn.Module):
    """A row-parallel product as ``ranks`` ranks compute it, their sum in one of :data:`FORMS`; exact while it watches
    what the channels' sizes are."""

    def __init__(self, linear: nn.Linear, ranks: int) -> None:
        super().__init__()
        self.linear = linear
        self.ranks = ranks
        self.form: str | None = None
        self.size = torch.zeros(linear.out_features, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        parts = [
            F.linear(a, w)
            for a, w in zip(x.chunk(self.ranks, -1), self.linear.weight.chunk(self.ranks, -1), strict=True)
        ]
        exact = torch.stack(parts).sum(0)
        if self.form is None:
            self.size += exact.abs().double().reshape(-1, exact.shape[-1]).mean(0)
            return exact
        return self._summed(parts)

    def _summed(self, parts: list[Tensor]) -> Tensor:
        if self.form == "bf16":
            return torch.stack([p.bfloat16() for p in parts]).sum(0).float()
        if self.form == "top 10 %":
            return torch.stack([_largest(p) for p in parts]).sum(0)
        plain = INT4 if self.form == "int4" else INT8
        channel = scales_of(self.size) if self.form in ("int8", "int4") else None
        form = Format(plain.bits, plain.group, channel)
        return simulated(form, [p.reshape(-1) for p in parts]).view(parts[0].shape)


def _largest(values: Tensor) -> Tensor:
    flat = values.reshape(-1)
    kept = flat.abs().topk(max(1, int(len(flat) * TOP_SHARE))).indices
    return torch.zeros_like(flat).index_copy(0, kept, flat[kept].bfloat16().float()).view(values.shape)


@contextmanager
def ranked(model: Model, ranks: int) -> Iterator[list[RankedLinear]]:
    """``model`` with its decoder's row-parallel products cut; whole again after."""
    found: list[RankedLinear] = []
    places = []
    for _, parent in list(model.named_modules()):
        for child in _ROW_PARALLEL:
            linear = getattr(parent, child, None)
            if isinstance(linear, nn.Linear):
                found.append(RankedLinear(linear, ranks))
                places.append((parent, child, linear))
                setattr(parent, child, found[-1])
    try:
        yield found
    finally:
        for parent, child, linear in places:
            setattr(parent, child, linear)


def prompts_of(path: Path, model: Model, count: int) -> list[list[int]]:
    """Instructions of held-out phone tasks, as the agent asks them."""
    builder = PromptBuilder.from_checkpoint(path, model.layout)
    rng = random.Random("compression quality")
    tasks = [new_start(rng, SPLITS["held_out_layouts"])[0] for _ in range(count)]
    return [list(builder.build([ChatMessage("user", task.instruction)]).token_ids) for task in tasks]


@torch.inference_mode()
def qualities(path: Path, count: int = 40, ranks: int = 2) -> dict[str, Quality]:
    """By form. The scales are fixed on the first quarter of the prompts, and all are judged on the rest."""
    exact, cut = (load_checkpoint(path, dtype=torch.float32) for _ in range(2))
    prompts = prompts_of(path, exact, count)
    seen, judged = prompts[: count // 4], prompts[count // 4 :]
    found = {}
    with ranked(cut, ranks) as products:
        compare(exact, cut, seen, kernels=False)
        for form in FORMS:
            for product in products:
                product.form = form
            found[form] = compare(exact, cut, judged, kernels=False)
    return found
