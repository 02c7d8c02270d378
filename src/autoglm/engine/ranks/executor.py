"""Execute a step on this rank's part of the model; the same code on every rank, so that collectives pair up."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoglm.engine.ranks.messages import Step
from autoglm.engine.ranks.native import NativeSteps
from autoglm.model.autoglm_phone import AutoGLMPhoneModel
from autoglm.model.context import ForwardContext, ImageFeatures, KVStore, SequenceSlice, VisualSpan
from autoglm.model.registry import Model


class StepExecutor:
    """Runs steps.

    Args:
        features: of the images that steps may name, by number; new ones are added, dropped ones removed.
        native: runs the steps that rank 0 runs on the kernels; rank 0 itself needs none.
    """

    def __init__(
        self,
        model: Model,
        kv: KVStore,
        block_size: int,
        features: MutableMapping[int, ImageFeatures],
        native: NativeSteps | None = None,
    ) -> None:
        self.model = model
        self.features = features
        self._kv = kv
        self._block_size = block_size
        self._offsets = torch.arange(block_size)
        self._native = native

    def follow(self, step: Step) -> None:
        """All of a step, on a rank other than 0."""
        self.copy(step)
        if self._native is None or not step.native:
            self.run(step)
        else:
            self.decode(step)

    def decode(self, step: Step, before: Tensor | None = None) -> Tensor:
        """A step on the kernels, of a stage with what the stage before gave; see :meth:`NativeDecoder.run`."""
        assert self._native is not None  # rank 0 asks for it only where all ranks have it
        self.drop(step)
        return self._native.run(step, before)

    def drop(self, step: Step) -> None:
        """Forget the images that the step drops."""
        for number in step.dropped:
            self.features.pop(number, None)
        if self._native is not None:
            self._native.drop(step.dropped)

    def copy(self, step: Step) -> None:
        """The step's copies between blocks. Rank 0 has done its own when they were ordered."""
        for source, target, tokens in step.copies:
            rows = self._offsets[:tokens].to(self.model.device)
            self._kv.copy_slots(rows + source * self._block_size, rows + target * self._block_size)

    @torch.inference_mode()
    def run(self, step: Step) -> tuple[Tensor, list[ImageFeatures]]:
        """fp32 logits ``[rows wanted, vocab]`` (other ranks than 0: their part of it), and the new images' features."""
        self.drop(step)
        context, ids = self.context(step)
        hidden = self.model.embed_tokens(ids)
        pixels = pixels_of(step)
        grids = [image.grid for image in step.images]
        new = self.model.encode_images(pixels, grids) if step.images else []
        self.features.update(zip((image.number for image in step.images), new, strict=True))
        if isinstance(self.model, AutoGLMPhoneModel):
            context.visual = [
                VisualSpan(s.row_start, s.row_end, tuple(self.features[i] for i in s.images)) for s in step.spans
            ]
        for s in step.splices:
            hidden[s.row : s.row + s.count] = self.features[s.image].tensors[0][s.offset : s.offset + s.count]
        return self.model.compute_logits(self.model.forward(hidden, context)), new

    def context(self, step: Step) -> tuple[ForwardContext, Tensor]:
        """The step's context and its token ids on the device."""
        device = self.model.device
        ids = _tensor(step.ids)
        positions = _tensor(step.positions)
        positions = positions.view(3, -1) if positions.numel() > ids.numel() else positions.expand(3, -1)
        new_slots, slices, row = [], [], 0
        for part in step.parts:
            if part.run_start >= 0:
                slots = torch.arange(part.run_start, part.run_start + part.context_len)
            else:
                blocks = _tensor(part.blocks)
                slots = (blocks[:, None] * self._block_size + self._offsets).flatten()[: part.context_len]
            new_slots.append(slots[part.context_len - part.query_len :])
            run_start = part.run_start if part.run_start >= 0 else None
            slices.append(SequenceSlice(row, part.query_len, part.context_len, slots.to(device), run_start))
            row += part.query_len
        context = ForwardContext(
            positions=positions.to(device),
            new_slots=torch.cat(new_slots).to(device),
            sequences=slices,
            kv=self._kv,
            output_rows=None if step.output_rows is None else _tensor(step.output_rows).to(device),
        )
        return context, ids.to(device)


def pixels_of(step: Step) -> list[Tensor]:
    """Of the new images, float32."""
    return [torch.from_numpy(_array(i.pixels, np.float32).reshape(i.shape).copy()) for i in step.images]


def _array(data: bytes, kind: type) -> np.ndarray[Any, Any]:
    return np.frombuffer(data, dtype=kind)


def _tensor(data: bytes) -> Tensor:
    return torch.from_numpy(_array(data, np.int32).astype(np.int64))
