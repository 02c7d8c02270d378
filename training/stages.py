"""What each stage learns, and how it is measured on validation screens."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoglm.model.autoglm_phone.model import AutoGLMPhoneModel
from autoglm.model.loading import load_checkpoint
from autoglm.model.registry import build_model
from autoglm.prompt import Tokenizer
from training.data import SampleStream, Screens, stream
from training.forward import Batch, Result, encode_screens, run
from training.loop import Plan, train
from training.shape import TURN_STARTS, config_json
from training.stem import NormedStem
from training.symbols import SIZES, SymbolVectors

Features = Callable[[Screens], Tensor]
_NAMES = ("label", "kind", "state", "tap")
_NONE_WEIGHT = 0.15
_LOOK_WEIGHT = 0.3
_READING_WEIGHT = 0.5
_NOISE = 0.3


def new_model(directory: Path, seed: int = 0) -> AutoGLMPhoneModel:
    """The model with fresh weights and a stem that can be trained."""
    torch.manual_seed(seed)
    tokenizer = Tokenizer.from_directory(directory)
    names = (*TURN_STARTS, "<|image|>", "</answer>", "<|endoftext|>")
    ids = {name: tokenizer.token_id(name) or 0 for name in names}
    model = build_model(config_json(ids, tokenizer.vocab_size))
    assert isinstance(model, AutoGLMPhoneModel)
    vision = model.config.vision
    model.visual.stem = NormedStem(vision.in_channels, vision.stem_channels)
    _initialise(model)
    return model


def started_model(folder: Path) -> AutoGLMPhoneModel:
    """A shipped checkpoint as a beginning, in fp32; its stem's norms stay folded."""
    model = load_checkpoint(folder, dtype=torch.float32)
    assert isinstance(model, AutoGLMPhoneModel)
    return model.requires_grad_(True).train()


@torch.no_grad()
def _initialise(model: AutoGLMPhoneModel) -> None:
    for name, parameter in model.named_parameters():
        if "stem" in name:
            continue  # torch's own initialisation of convolutions and norms
        if name.endswith(".gate"):
            parameter.fill_(0.5)
        elif "norm" in name or name.endswith(".scale"):
            parameter.fill_(1.0)
        elif name == "model.time_gate.bias":
            parameter.fill_(2.0)  # an open gate: everything is visible until it is learnt otherwise
        elif parameter.dim() < 2:
            parameter.zero_()
        elif "embed" in name or name == "lm_head.weight":
            parameter.normal_(0.0, 0.5 if "tokens" in name else 0.05)
        else:
            parameter.normal_(0.0, parameter.shape[1] ** -0.5)


def policy(plan: Plan, model: AutoGLMPhoneModel, tokens: Path, seed: int) -> bool:
    """The decoder learns what to do, given what the cells show as their vectors, blurred a little."""
    vectors = SymbolVectors.make()
    batches = stream(SampleStream(tokens, "train", seed, screens=6, k=6, drawn=False))
    named = [(n, p) for n, p in model.named_parameters() if ".visual." not in n]
    seen = _first(plan, SampleStream(tokens, "validation", 0, screens=8, k=8, drawn=False))

    def step(batch: Screens) -> tuple[Tensor, dict[str, float]]:
        features = vectors.features(batch.symbols)
        features = features + torch.randn_like(features) * (_NOISE * torch.rand(len(features), 1, 1))
        return _token_loss(_run(model, batch, features))

    def check() -> dict[str, float]:
        return _exact(model, seen, lambda batch: vectors.features(batch.symbols))

    return train(plan, model, named, batches, step, check)


def reading(plan: Plan, model: AutoGLMPhoneModel, tokens: Path, seed: int) -> bool:
    """The vision tower learns to make the cells' vectors of pixels."""
    vectors = SymbolVectors.make()
    batches = stream(SampleStream(tokens, "train", seed, screens=8, k=1, drawn=True, tokens=False))
    named = [(n, p) for n, p in model.named_parameters() if ".visual." in n]
    seen = _first(plan, SampleStream(tokens, "validation", 0, screens=8, k=1, drawn=True, tokens=False))

    def step(batch: Screens) -> tuple[Tensor, dict[str, float]]:
        with torch.autocast("cpu", torch.bfloat16):
            features = encode_screens(model.visual, _drawn(batch))
        return _reading_loss(vectors, features.float(), batch.symbols)

    def check() -> dict[str, float]:
        return _read(model, vectors, seen)

    return train(plan, model, named, batches, step, check)


def acting(plan: Plan, model: AutoGLMPhoneModel, tokens: Path, seed: int) -> bool:
    """The decoder learns to act on what the tower really reads; the tower stays as it is."""
    batches = stream(SampleStream(tokens, "train", seed, screens=4, k=12, drawn=True))
    named = [(n, p) for n, p in model.named_parameters() if ".visual." not in n]
    seen = _first(plan, SampleStream(tokens, "validation", 0, screens=8, k=8, drawn=True))

    def read(batch: Screens) -> Tensor:
        model.visual.eval()  # its batch norms keep their running statistics
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            return encode_screens(model.visual, _drawn(batch)).float()

    def step(batch: Screens) -> tuple[Tensor, dict[str, float]]:
        return _token_loss(_run(model, batch, read(batch)))

    def check() -> dict[str, float]:
        return _exact(model, seen, read)

    return train(plan, model, named, batches, step, check)


def joint(plan: Plan, model: AutoGLMPhoneModel, tokens: Path, seed: int) -> bool:
    """Both halves as one, from pixels to actions."""
    vectors = SymbolVectors.make()
    batches = stream(SampleStream(tokens, "train", seed, screens=5, k=6, drawn=True))
    seen = _first(plan, SampleStream(tokens, "validation", 0, screens=8, k=8, drawn=True))

    def step(batch: Screens) -> tuple[Tensor, dict[str, float]]:
        with torch.autocast("cpu", torch.bfloat16):
            features = encode_screens(model.visual, _drawn(batch)).float()
        loss, figures = _token_loss(_run(model, batch, features))
        read, found = _reading_loss(vectors, features, batch.symbols)
        return loss + _READING_WEIGHT * read, {**figures, "label": found["label"]}

    def check() -> dict[str, float]:
        exact = _exact(model, seen, lambda batch: encode_screens(model.visual, _drawn(batch)))
        return {**exact, **_read(model, vectors, seen)}

    return train(plan, model, list(model.named_parameters()), batches, step, check)


def _run(model: AutoGLMPhoneModel, batch: Screens, features: Tensor) -> Result:
    """The decoder's maps in bfloat16: 1.3 times as fast on CPUs that have it."""
    with torch.autocast("cpu", torch.bfloat16):
        return run(model, _need(batch), features)


def _token_loss(result: Result) -> tuple[Tensor, dict[str, float]]:
    loss = F.cross_entropy(result.logits, result.targets)
    with torch.no_grad():
        right = (result.logits.argmax(-1) == result.targets).float().mean()
    figures = {"tokens": loss.item(), "right": right.item(), "look": result.look_loss.item()}
    return loss + _LOOK_WEIGHT * result.look_loss, figures


def _reading_loss(vectors: SymbolVectors, features: Tensor, symbols: Tensor) -> tuple[Tensor, dict[str, float]]:
    losses: dict[str, Tensor] = {}
    for index, logits in enumerate(vectors.logits(features)):
        weight = torch.ones(SIZES[index])
        weight[0] = _NONE_WEIGHT if index in (0, 3) else 0.5
        losses[_NAMES[index]] = F.cross_entropy(logits.flatten(0, 1), symbols[:, index].flatten(), weight=weight)
    place = vectors.place
    losses["place"] = F.mse_loss(features[..., -place.shape[1] :], place.expand(len(features), -1, -1))
    return torch.stack(list(losses.values())).sum(), {name: loss.item() for name, loss in losses.items()}


def _read(model: AutoGLMPhoneModel, vectors: SymbolVectors, seen: list[Screens]) -> dict[str, float]:
    """Share of tap points whose label, kind and state are read right."""
    hits: dict[str, list[Tensor]] = defaultdict(list)
    for batch in seen:
        logits = vectors.logits(encode_screens(model.visual, _drawn(batch)))
        marked = (batch.symbols[:, 3] == 1) & (batch.symbols[:, 0] > 0)
        for index, name in enumerate(_NAMES[:3]):
            hits[f"read_{name}"].append((logits[index].argmax(-1) == batch.symbols[:, index])[marked])
        hits["read_tap"].append((logits[3].argmax(-1) == batch.symbols[:, 3]).all(1))
    return {name: torch.cat(values).float().mean().item() for name, values in hits.items()}


def _exact(model: AutoGLMPhoneModel, seen: list[Screens], features: Features) -> dict[str, float]:
    """Share of samples whose whole answer greedy decoding gives, in all and by kind of action."""
    hits: dict[str, list[float]] = defaultdict(list)
    for batch in seen:
        result = run(model, _need(batch), features(batch))
        wrong = torch.zeros(len(batch.kinds)).index_add(
            0, result.sample, (result.logits.argmax(-1) != result.targets).float()
        )
        for kind, misses in zip(batch.kinds, wrong.tolist(), strict=True):
            hits["exact"].append(float(misses == 0))
            hits[f"exact_{kind}"].append(float(misses == 0))
    return {name: sum(values) / len(values) for name, values in hits.items()}


def _first(plan: Plan, options: SampleStream) -> list[Screens]:
    return list(itertools.islice(stream(options, workers=0), plan.check_batches))


def _need(batch: Screens) -> Batch:
    assert batch.batch is not None
    return batch.batch


def _drawn(batch: Screens) -> Tensor:
    assert batch.pixels is not None
    return batch.pixels


@torch.inference_mode()
def align(model: AutoGLMPhoneModel, tokens: Path, batches: int) -> float:
    """Fit the projector's last map so that what the tower reads has the size of the vectors the decoder was taught on.

    Cross-entropy fixes the direction of a cell's features, not their size. Least squares over ``batches`` of screens;
    the map is folded into the projector. Returns the share of the vectors' variance that is explained.
    """
    vectors = SymbolVectors.make()
    seen = stream(SampleStream(tokens, "train", 99, screens=8, k=1, drawn=True, tokens=False))
    model.eval()
    found, wanted = [], []
    for batch in itertools.islice(seen, batches):
        found.append(encode_screens(model.visual, _drawn(batch)).flatten(0, 1))
        wanted.append(vectors.features(batch.symbols).flatten(0, 1))
    model.train()
    x, y = torch.cat(found).double(), torch.cat(wanted).double()
    x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    gram = x.T @ x
    fit = torch.linalg.solve(gram + 1e-4 * gram.diagonal().mean() * torch.eye(len(gram), dtype=x.dtype), x.T @ y)
    explained = 1 - (x @ fit - y).square().mean() / (y - y.mean(0)).square().mean()
    out = model.visual.projector.out
    weight, bias = fit[:-1].T @ out.weight.double(), fit[:-1].T @ out.bias.double() + fit[-1]
    out.weight.copy_(weight)
    out.bias.copy_(bias)
    return float(explained)


def copy_tower(target: nn.Module, source_state: dict[str, Tensor]) -> None:
    """Take the vision tower of another stage's state."""
    state = {n: t for n, t in source_state.items() if ".visual." in n}
    missing = target.load_state_dict(state, strict=False).missing_keys
    assert not any(".visual." in name for name in missing)
