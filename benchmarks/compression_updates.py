"""Weight updates of a real adapter: the embedded model is trained a little, and its replicas are told.

An adapter of rank 8 on the decoder's output products is trained on phone dialogues; what is sent is how the merged
weights of one version become those of a later one. Beside it a plain fine-tune, whose change has no low rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from autoglm.model.autoglm_phone import AutoGLMPhoneModel
from autoglm.model.loading import load_checkpoint
from autoglm.model.quantized.quality import Quality, compare
from autoglm.parallel.codecs.updates import LowRank, apply_update, encode_update
from benchmarks.compression_quality import prompts_of
from training.data import SampleStream, Screens, stream
from training.forward import encode_screens, run

RANK = 8
_NAMES = ("o_proj", "down_proj")
_RATE = 3e-3
_FULL_RATE = 1e-4


class Adapter(nn.Module):
    """``weight + up @ down`` (Hu et al. 2021)."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, weight.shape[1]) * weight.shape[1] ** -0.5)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """Of all matrices together.

    Attributes:
        raw_bytes, half_bytes: the new matrices in float32 and in 16 bits. coded_bytes: the update.
        adapter_bytes: both versions' own factors in 16 bits, where the sender has them: the bound from below.
        error: the largest relative error of a matrix's change.
        thin: how many matrices went as a thin product, of ``matrices``.
        quality: answers with the update as received, against the exact new weights.
    """

    raw_bytes: int
    half_bytes: int
    coded_bytes: int
    adapter_bytes: int
    error: float
    thin: int
    matrices: int
    quality: Quality


def adapter_update(path: Path, steps: int) -> UpdateReport:
    """Train for ``steps``, then as many again, and send the second half."""
    torch.manual_seed(0)
    model = _loaded(path)
    linears = _linears(model)
    model.requires_grad_(False)
    for linear in linears.values():
        parametrize.register_parametrization(linear, "weight", Adapter(linear.weight, RANK))
    trained = [p for p in model.parameters() if p.requires_grad]
    batches = _batches(path)
    _train(model, trained, batches, steps, _RATE)
    before = _weights(linears)
    _train(model, trained, batches, steps, _RATE)
    return _report(path, before, _weights(linears), sum(2 * p.numel() for p in trained))


def fine_tune_update(path: Path, steps: int) -> UpdateReport:
    """The same with all weights of those matrices free."""
    model = _loaded(path)
    linears = _linears(model)
    model.requires_grad_(False)
    trained = [linear.weight for linear in linears.values()]
    for weight in trained:
        weight.requires_grad_(True)
    before = _weights(linears)
    _train(model, trained, _batches(path), steps, _FULL_RATE)
    return _report(path, before, _weights(linears), 0)


def _loaded(path: Path) -> AutoGLMPhoneModel:
    model = load_checkpoint(path, dtype=torch.float32)
    assert isinstance(model, AutoGLMPhoneModel)
    return model


def _linears(model: nn.Module) -> dict[str, nn.Linear]:
    found = {name: m for name, m in model.named_modules() if name.rpartition(".")[2] in _NAMES}
    return {name: m for name, m in found.items() if isinstance(m, nn.Linear) and ".visual." not in name}


def _batches(path: Path) -> Iterator[Screens]:
    return stream(SampleStream(path, "train", 1, screens=2, k=4, drawn=True), workers=0)


def _train(
    model: AutoGLMPhoneModel, parameters: Sequence[Tensor], batches: Iterator[Screens], steps: int, rate: float
) -> None:
    optimiser = torch.optim.Adam(parameters, rate)
    for _ in range(steps):
        batch = next(batches)
        assert batch.batch is not None
        assert batch.pixels is not None
        with torch.no_grad():
            visual = encode_screens(model.visual, batch.pixels)
        result = run(model, batch.batch, visual)
        optimiser.zero_grad()
        F.cross_entropy(result.logits, result.targets).backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def _weights(linears: dict[str, nn.Linear]) -> dict[str, Tensor]:
    return {name: linear.weight.detach().clone() for name, linear in linears.items()}


def _report(path: Path, before: dict[str, Tensor], after: dict[str, Tensor], adapter_bytes: int) -> UpdateReport:
    updates = {name: encode_update(before[name], after[name]) for name in after}
    thin = [u for u in updates.values() if isinstance(u, LowRank)]
    exact, received = _loaded(path), _loaded(path)
    with torch.no_grad():
        for name, linear in _linears(exact).items():
            linear.weight.copy_(after[name])
        for name, linear in _linears(received).items():
            linear.weight.copy_(apply_update(before[name], updates[name]))
    return UpdateReport(
        raw_bytes=sum(t.nbytes for t in after.values()),
        half_bytes=sum(2 * t.numel() for t in after.values()),
        coded_bytes=sum(u.nbytes for u in updates.values()),
        adapter_bytes=adapter_bytes,
        error=max((u.error for u in thin), default=0.0),
        thin=len(thin),
        matrices=len(updates),
        quality=compare(exact, received, prompts_of(path, exact, 12)),
    )
