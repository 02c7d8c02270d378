"""Runs micro-batches on one stage, in order: keeps the stage's KV and what it needs of images."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from autoglm.engine.penalties import best_token
from autoglm.engine.pipeline.messages import MicroBatch, Reply
from autoglm.engine.ranks.executor import StepExecutor, pixels_of
from autoglm.engine.ranks.messages import Step
from autoglm.model.context import ForwardContext, ImageFeatures, VisualSpan
from autoglm.model.stage import Activation, StageModel
from autoglm.parallel.pipeline.bubble import Interval

INTERVALS = 4096
"""Kept of a stage's work until they are asked for."""


class StageRunner:
    """One stage on this rank.

    Args:
        steps: of a model cut to its stage; their features are those that this stage needs.

    Attributes:
        kind: what runs the layers; a benchmark puts one of known time in its place.
        intervals: when it worked, by the monotonic clock, in order of micro-batches; the latest few thousand.
    """

    kind: ClassVar[type[StageModel]] = StageModel

    def __init__(self, steps: StepExecutor) -> None:
        model = steps.model
        assert model.stage is not None  # the caller has cut it
        self.stage = model.stage
        self.intervals: deque[Interval] = deque(maxlen=INTERVALS)
        self._model = self.kind(model, model.stage)
        self._steps = steps
        self._features = steps.features

    @property
    def reads_images(self) -> bool:
        """Whether it keeps features of images."""
        return self._model.reads_images

    @contextmanager
    def working(self) -> Iterator[None]:
        """Around all that a micro-batch takes here, but for waiting: what the stage is busy with."""
        start = time.perf_counter()
        yield
        self.intervals.append((start, time.perf_counter()))

    def prepare(self, step: Step) -> None:
        """What comes before the layers: the step's copies, and what it forgets."""
        self._steps.copy(step)
        self._steps.drop(step)

    def decode(self, step: Step, before: Tensor | None) -> Tensor:
        """A micro-batch of decoding on the kernels; see :meth:`autoglm.model.native.decoder.NativeDecoder.run`."""
        self._steps.copy(step)
        return self._steps.decode(step, before)

    @torch.inference_mode()
    def run(self, batch: MicroBatch, before: Activation | None) -> tuple[Activation, list[ImageFeatures]]:
        """One micro-batch; ``before`` is what the stage before gave, ``None`` for the first.

        Returns:
            what the next stage needs, or, as ``hidden`` after the last, fp32 logits ``[rows wanted, vocab]`` (whole on
            the stage's first rank); and the new images' features, none where the stage does not read them.
        """
        step, model = batch.step, self._model
        self.prepare(step)
        visual, new = self._images(batch, before)
        context, ids = self._steps.context(step)
        self._see(batch, context)
        hidden = self._embed(batch, ids) if before is None else before.hidden
        if not self.stage.is_last:
            context.output_rows = None
        hidden, queries = model.run(hidden, None if before is None else before.queries, context)
        if self.stage.is_last:
            hidden = model.model.compute_logits(hidden)
        return Activation(hidden, queries, visual), new

    def _images(self, batch: MicroBatch, before: Activation | None) -> tuple[list[Tensor], list[ImageFeatures]]:
        """Visual tokens of the new images, encoded here or as they came, and what this stage keeps of them."""
        images = batch.step.images
        if not images:
            return [], []
        visual = [] if before is None else before.visual
        if self.stage.vision:
            visual = self._model.encode(pixels_of(batch.step), [image.grid for image in images])
        if not self.reads_images:
            return visual, []
        new = [self._model.absorb(tokens) for tokens in visual]
        self._features.update(zip((image.number for image in images), new, strict=True))
        return visual, new

    def _see(self, batch: MicroBatch, context: ForwardContext) -> None:
        if self.reads_images:
            context.visual = [
                VisualSpan(s.row_start, s.row_end, tuple(self._features[i] for i in s.images)) for s in batch.step.spans
            ]

    def _embed(self, batch: MicroBatch, ids: Tensor) -> Tensor:
        hidden = self._model.model.embed_tokens(ids)
        for s in batch.step.splices:
            hidden[s.row : s.row + s.count] = self._features[s.image].tensors[0][s.offset : s.offset + s.count]
        return hidden


@torch.inference_mode()
def reply_of(batch: MicroBatch, logits: Tensor) -> Reply:
    """What the wishes want of fp32 ``logits [rows wanted, vocab]`` (may be overwritten)."""
    tokens: list[int] = []
    whole: list[int] = []
    for row, wish in enumerate(batch.wishes):
        if wish.whole:
            tokens.append(-1 - len(whole))
            whole.append(row)
            continue
        if wish.ids:
            amounts = torch.tensor(wish.amounts, dtype=torch.float32, device=logits.device)
            logits[row, torch.tensor(wish.ids, device=logits.device)] -= amounts
        tokens.append(best_token(logits, row, None))
    rest = logits[whole].cpu().numpy().astype(np.float32, copy=False).tobytes() if whole else b""
    return Reply(batch.number, tokens, rest)
