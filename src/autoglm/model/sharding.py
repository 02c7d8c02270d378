"""Tensor parallelism of a model: cut it down to one rank's part, and let its layers communicate."""

from __future__ import annotations

import torch
from torch import nn

from autoglm.errors import InvalidInputError
from autoglm.model.autoglm_phone import AutoGLMPhoneModel
from autoglm.model.autoglm_phone.fusion import GatedCrossAttention
from autoglm.model.decoder import SelfAttention
from autoglm.model.layers import FusedLinear, Spread
from autoglm.model.loading import checkpoint_targets
from autoglm.model.patches import VisionParallel
from autoglm.model.registry import Model
from autoglm.model.vision import VisionAttention
from autoglm.parallel.collectives import Communicator
from autoglm.parallel.tensor import Sharding, decoder_rules, fusion_rules, vision_rules

_TOWER = "model.visual."


def sharding_of(model: Model, rank: int, size: int, vision: VisionParallel = "tensor") -> Sharding:
    """What a rank holds of a model's checkpoint; unless ``vision`` is ``tensor``, all of the tower."""
    text = model.text_config
    rules = decoder_rules(text.num_heads, text.num_kv_heads, text.intermediate_size, size)
    if vision == "tensor":
        rules += vision_rules(model.config.vision.num_heads)
    if isinstance(model, AutoGLMPhoneModel):
        fusion = model.config.fusion
        rules += fusion_rules(fusion.num_heads, fusion.num_kv_heads, size)
    return Sharding(rules, rank, size)


def check_sharding(model: Model, size: int, vision: VisionParallel = "tensor") -> None:
    """Raise :class:`InvalidInputError` if heads, widths or vocabulary cannot be shared out over ``size`` ranks."""
    sharding = sharding_of(model, 0, size, vision)
    for name, target in checkpoint_targets(model).items():
        try:
            sharding.ranges(name, (target.rows, *model.get_parameter(target.parameter).shape[1:]))
        except InvalidInputError as error:
            if not name.startswith(_TOWER):
                raise
            hint = f"{error.message}; vision_parallel data or sequence shares out images or patches instead"
            raise InvalidInputError(hint, field=error.field, limit=error.limit, value=error.value) from error


def shard(model: Model, comm: Communicator, vision: VisionParallel = "tensor") -> None:
    """Make a whole model on the meta device into this rank's part of it; loading then reads that part only.

    Raises as :func:`check_sharding`, before anything is changed.
    """
    check_sharding(model, comm.size, vision)
    sharding = sharding_of(model, comm.rank, comm.size, vision)
    for prefix, module in model.named_modules():
        if isinstance(module, Spread) and (vision == "tensor" or not prefix.startswith(_TOWER)):
            module.comm = comm
        _cut_parameters(module, prefix, sharding)
    for module in model.modules():
        _count_heads(module)
    model.sharding = sharding
    if vision != "tensor":
        model.vision_parallel, model.vision_comm = vision, comm


def _count_heads(module: nn.Module) -> None:
    """Heads as they are after the cut."""
    if isinstance(module, SelfAttention):
        module.heads, module.kv_heads, _ = (rows // module.head_dim for _, rows in module.qkv.parts)
    elif isinstance(module, VisionAttention):
        module.heads = module.qkv.weight.shape[0] // 3 // module.head_dim
    elif isinstance(module, GatedCrossAttention):
        module.num_heads = module.q_proj.weight.shape[0] // module.head_dim
        module.num_kv_heads = module.k_proj.weight.shape[0] // module.head_dim


def _cut_parameters(module: nn.Module, prefix: str, sharding: Sharding) -> None:
    if isinstance(module, FusedLinear):
        parent = prefix.rpartition(".")[0]
        module.parts = tuple(
            (part, sharding.local_rows(f"{parent}.{part}.weight", rows)) for part, rows in module.parts
        )
        rows = sum(rows for _, rows in module.parts)
        for name, parameter in list(module.named_parameters(recurse=False)):
            _replace(module, name, (rows, *parameter.shape[1:]))
        return
    for name, parameter in list(module.named_parameters(recurse=False)):
        shape = list(parameter.shape)
        found = sharding.ranges(f"{prefix}.{name}", tuple(shape))
        if found is not None:
            dim, ranges = found
            shape[dim] = sum(end - start for start, end in ranges)
            _replace(module, name, tuple(shape))


def _replace(module: nn.Module, name: str, shape: tuple[int, ...]) -> None:
    old = module.get_parameter(name)
    empty = torch.empty(shape, dtype=old.dtype, device="meta")
    setattr(module, name, nn.Parameter(empty, requires_grad=False))
