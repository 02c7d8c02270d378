"""One stage of a pipeline: a model that holds its own layers only, and what passes between stages.

``glm4v`` encodes images on the stage of its first layer, where they take the place of embeddings. ``autoglm_phone``
encodes them on any stage up to the first that reads them; the projected visual tokens travel on with the activations,
and each reading stage makes the keys and values of its own modules. The time gate's queries, which the first reading
stage makes of the text stream, travel the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autoglm.model.autoglm_phone import AutoGLMPhoneModel
from autoglm.model.autoglm_phone.fusion import GatedCrossAttention, VisualPlan, gate_queries, pack_features
from autoglm.model.context import ForwardContext, ImageFeatures
from autoglm.model.loading import checkpoint_targets
from autoglm.model.registry import Model
from autoglm.model.vision import Grid
from autoglm.parallel.pipeline.partition import Stage


class Absent(nn.Module):
    """Stands for a part that another stage holds; calling it is an error."""


def cut(model: Model, stage: Stage) -> None:
    """Take out of a model what is not the stage's; loading then reads the stage's weights only."""
    whole = frozenset(checkpoint_targets(model))
    decoder = model.decoder
    model.stage = stage
    for index in range(len(decoder.layers)):
        if not stage.first <= index < stage.last:
            decoder.layers[index] = Absent()
    tied = model.config.tie_word_embeddings if not isinstance(model, AutoGLMPhoneModel) else False
    if not stage.is_first and not (tied and stage.is_last):
        decoder.embed_tokens = Absent()  # type: ignore[assignment]
    if not stage.is_last:
        decoder.norm, model.lm_head = Absent(), Absent()  # type: ignore[assignment]
    if not stage.vision:
        model.model["visual"] = Absent()
    if isinstance(model, AutoGLMPhoneModel):
        modules = model.model["cross_attention"]
        assert isinstance(modules, nn.ModuleList)
        held = [stage.first <= layer < stage.last for layer in model.config.fusion.layers]
        for index in range(len(held)):
            if not held[index]:
                modules[index] = Absent()
        if not any(held):
            model.model["time_gate"] = Absent()
    model.elsewhere = whole - frozenset(checkpoint_targets(model))


def held_modules(model: AutoGLMPhoneModel, first: int, last: int) -> dict[int, tuple[int, GatedCrossAttention]]:
    """The cross-attention of layers ``[first, last)``, which are all that ``model`` holds: by layer, with its place in
    an image's features."""
    layers = [layer for layer in model.config.fusion.layers if first <= layer < last]
    return dict(zip(layers, enumerate(model.cross_attention), strict=True))


def vision_before(model: Model) -> int:
    """The first layer that needs an image."""
    return model.config.fusion.layers[0] if isinstance(model, AutoGLMPhoneModel) else 0


def whole_feature_bytes(model: Model) -> int:
    """What all stages together keep of one image; layout ``autoglm_phone``, where its size does not matter."""
    assert isinstance(model, AutoGLMPhoneModel)
    fusion = model.config.fusion
    values = 2 * len(fusion.layers) * fusion.num_kv_heads * fusion.head_dim + fusion.gate_rank
    return values * model.visual_tokens * model.dtype.itemsize


@dataclass(slots=True)
class Activation:
    """What one stage gives the next for one micro-batch.

    Attributes:
        hidden: ``[rows, hidden_size]``.
        queries: ``[rows that see an image, gate rank]``, from the first reading stage on; else None.
        visual: ``[tokens, hidden_size]`` of each image this micro-batch is the first to need.
    """

    hidden: Tensor
    queries: Tensor | None
    visual: list[Tensor]


@dataclass(frozen=True, slots=True)
class Widths:
    """Shapes of what a stage sends; the receiver knows them before it comes.

    Attributes:
        rank: of the gate's queries; 0 where none are sent. visual_tokens: of each new image; 0 where none are sent.
    """

    hidden: int
    rank: int
    visual_tokens: int

    @classmethod
    def after(cls, model: Model, stage: Stage, vision: int) -> Widths:
        """Of what ``stage`` sends, where stage ``vision`` encodes images; ``model`` may be any stage's."""
        return cls._at(model, stage.last, vision <= stage.index)

    @classmethod
    def before(cls, model: Model, stage: Stage, vision: int) -> Widths:
        """Of what ``stage`` receives."""
        return cls._at(model, stage.first, vision < stage.index)

    @classmethod
    def _at(cls, model: Model, layer: int, encoded: bool) -> Widths:
        """At the boundary before ``layer``; ``encoded``: the vision tower stands before it."""
        hidden = model.text_config.hidden_size
        if not isinstance(model, AutoGLMPhoneModel):
            return cls(hidden, 0, 0)
        fusion = model.config.fusion
        rank = fusion.gate_rank if fusion.layers[0] < layer <= fusion.layers[-1] else 0
        return cls(hidden, rank, model.visual_tokens if encoded and layer <= fusion.layers[-1] else 0)

    def numbers(self, rows: int, seeing: int, images: int) -> int:
        """Values in one message."""
        return self.hidden * (rows + images * self.visual_tokens) + seeing * self.rank

    def pack(self, activation: Activation) -> Tensor:
        """One flat message."""
        parts = [activation.hidden.flatten()]
        if self.rank and activation.queries is not None:
            parts.append(activation.queries.flatten())
        if self.visual_tokens:
            parts += [visual.flatten() for visual in activation.visual]
        return parts[0].contiguous() if len(parts) == 1 else torch.cat(parts)

    def unpack(self, message: Tensor, rows: int, seeing: int, images: int) -> Activation:
        """Undo :meth:`pack`; views of the message."""
        sizes = [rows * self.hidden, seeing * self.rank]
        sizes += [self.visual_tokens * self.hidden] * images
        hidden, queries, *visual = torch.split(message, sizes)
        return Activation(
            hidden.view(rows, self.hidden),
            queries.view(seeing, self.rank) if self.rank and seeing else None,
            [part.view(self.visual_tokens, self.hidden) for part in visual] if self.visual_tokens else [],
        )


class StageModel:
    """Runs one stage of a model that was cut to it."""

    def __init__(self, model: Model, stage: Stage) -> None:
        self.model, self.stage = model, stage
        self._modules: dict[int, tuple[int, GatedCrossAttention]] = {}
        if isinstance(model, AutoGLMPhoneModel):
            self._modules = held_modules(model, stage.first, stage.last)

    @property
    def reads_images(self) -> bool:
        """Whether it needs :meth:`absorb`."""
        return bool(self._modules) or (self.model.image_in_sequence and self.stage.is_first)

    def encode(self, pixels: Sequence[Tensor], grids: Sequence[Grid]) -> list[Tensor]:
        """Visual tokens of each image, ``[tokens, hidden_size]``; for the stage with the vision tower."""
        return self.model.encode_visual(pixels, grids)

    def absorb(self, visual: Tensor) -> ImageFeatures:
        """What this stage keeps of an image: the tokens themselves, or its own modules' keys and values."""
        if isinstance(self.model, AutoGLMPhoneModel):
            pairs = [module.visual_kv(visual) for _, module in self._modules.values()]
            return pack_features(pairs, self.model.time_gate.visual_keys(visual))
        return ImageFeatures((visual,))

    def run(self, hidden: Tensor, queries: Tensor | None, context: ForwardContext) -> tuple[Tensor, Tensor | None]:
        """The stage's layers on ``[rows, hidden_size]``; the last stage gives ``context.output_rows`` only.

        Returns:
            hidden states, and the gate's queries if a later stage may need them.
        """
        decoder, stage = self.model.decoder, self.stage
        plan = decoder.plan(context)
        if not self._modules:
            return decoder.run_layers(hidden, context, plan, stage.first, stage.last), queries
        assert isinstance(self.model, AutoGLMPhoneModel)
        gate, first = self.model.time_gate, self.model.config.fusion.layers[0]
        if stage.first <= first:
            hidden = decoder.run_layers(hidden, context, plan, stage.first, first)
            queries = gate_queries(hidden, context.visual, gate)
        visual = None
        if queries is not None:
            visual = VisualPlan.with_queries(queries, hidden.shape[0], context.visual, gate)

        def read_image(layer: int, x: Tensor) -> Tensor:
            found = self._modules.get(layer)
            if visual is None or found is None:
                return x
            out: Tensor = found[1](x, visual, found[0])
            return out

        hidden = decoder.run_layers(hidden, context, plan, max(first, stage.first), stage.last, read_image)
        return hidden, queries
