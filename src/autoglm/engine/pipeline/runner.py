"""The model runner of rank 0 in a pipeline: describes micro-batches to all ranks, and computes the first stage."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np
import torch

from autoglm.cache import PartialCopy, VisualCache
from autoglm.engine.config import EngineConfig
from autoglm.engine.pipeline.flights import Answer
from autoglm.engine.pipeline.messages import MicroBatch, Reply, Times, Wish, decode_reply, decode_times, without_pixels
from autoglm.engine.pipeline.stage import StageRunner
from autoglm.engine.ranks.group import RankGroup
from autoglm.engine.ranks.messages import encode
from autoglm.engine.ranks.runner import RankRunner
from autoglm.engine.sampling import Choice, SamplerState
from autoglm.engine.scheduler import Chunk
from autoglm.engine.sequence import Sequence
from autoglm.model.context import ImageFeatures
from autoglm.model.registry import Model
from autoglm.model.stage import Widths, whole_feature_bytes
from autoglm.parallel.collectives import Handle
from autoglm.parallel.pipeline.bubble import Interval

_SENDS = 4
"""Messages on their way to the second stage at most."""


@dataclass(frozen=True, slots=True)
class SpreadFeatures(ImageFeatures):
    """Features of which other stages hold parts; ``whole`` bytes are what all of them hold together."""

    whole: int = 0

    @property
    def nbytes(self) -> int:
        return self.whole


class PipelineRunner(RankRunner):
    """Runs micro-batches; see :class:`autoglm.engine.pipeline.flights.Stages`."""

    def __init__(
        self,
        model: Model,
        num_blocks: int,
        config: EngineConfig,
        visual: VisualCache[ImageFeatures],
        group: RankGroup,
    ) -> None:
        assert group.plan is not None  # a pipeline has one
        super().__init__(model, num_blocks, config, visual, group)
        self._stage = StageRunner(model, self._kv, config.block_size, self._images.held)
        self._widths = Widths.after(model, self._stage.stage, group.plan.partition.vision)
        place = group.place
        self._last = (place.pipeline_size - 1) * place.tensor_size
        encoding = group.plan.partition.vision
        self.row_cost = group.plan.row
        self._encoding = range(encoding * place.tensor_size, (encoding + 1) * place.tensor_size)
        self._sends: deque[Handle] = deque()
        self._number = 0

    def copy(self, copy: PartialCopy) -> None:
        """Done on every stage, this one too, before the next micro-batch."""
        self._copies.append((copy.source, copy.target, copy.tokens))

    @torch.inference_mode()
    def launch(self, chunks: Seq[Chunk], sampling: Seq[Sequence]) -> None:
        """Begin a micro-batch. Raises :class:`RankLostError`."""
        try:
            while len(self._sends) >= _SENDS:
                self._sends.popleft().wait()
            with self._stage.working():
                self._launch(chunks, sampling)
        except RuntimeError as error:
            raise self._group.explain(error) from error

    def _launch(self, chunks: Seq[Chunk], sampling: Seq[Sequence]) -> None:
        users, fresh = self._missing(chunks)
        known = [(s, i) for s, i in users if (s.salt, s.images[i].image.digest) not in fresh]
        self._settle(known, {})
        new = {key: self._images.take() for key in fresh}
        self._number += 1
        batch = MicroBatch(
            self._number, self._describe(chunks, fresh, new), [_wish(sequence.sampler) for sequence in sampling]
        )
        self._order(batch)
        after, features = self._stage.run(batch, None)
        self._sends.append(self._group.mesh.pipeline.isend(self._widths.pack(after), 1))
        if fresh and (not features or not self.model.image_in_sequence):
            tensors = [one.tensors for one in features] or [()] * len(fresh)
            features = [SpreadFeatures(held, whole_feature_bytes(self.model)) for held in tensors]
            self._images.held.update(zip(new.values(), features, strict=True))
        for number, one in zip(new.values(), features, strict=True):
            self._images.remember(one, number)
        self._settle([u for u in users if u not in known], dict(zip(fresh, features, strict=True)))

    def ready(self) -> bool:
        """Whether an answer is there."""
        return self._group.ready(self._last)

    def land(self) -> Answer:
        """The oldest answer. Raises :class:`RankLostError`."""
        return _Answer(decode_reply(self._group.receive(self._last)), self.model.vocab_size)

    def intervals(self) -> list[list[Interval]]:
        """When each stage computed, since the last call; only while nothing is in flight."""
        own = list(self._stage.intervals)
        self._stage.intervals.clear()
        order = encode(Times())
        place = self._group.place
        for rank in range(1, place.world_size):
            self._group.send(rank, order)
        leaders = range(place.tensor_size, place.world_size, place.tensor_size)
        return [own, *(decode_times(self._group.receive(rank)) for rank in leaders)]

    def _order(self, batch: MicroBatch) -> None:
        bare = encode(without_pixels(batch))
        full = encode(batch) if batch.step.images and self._group.place.world_size > 1 else bare
        for rank in range(1, self._group.place.world_size):
            self._group.send(rank, full if rank in self._encoding else bare)


def _wish(sampler: SamplerState) -> Wish:
    if not sampler.greedy_by_counts:
        return Wish(whole=True)
    ids, amounts = sampler.count_amounts()
    return Wish(False, ids, amounts)


class _Answer:
    """Tokens as the last stage chose them, or chosen here of its logits."""

    def __init__(self, reply: Reply, vocab: int) -> None:
        self._reply = reply
        self._logits = torch.from_numpy(np.frombuffer(bytearray(reply.logits), dtype=np.float32).reshape(-1, vocab))

    def choice(self, index: int, sequence: Sequence) -> Choice:
        """See :class:`autoglm.engine.pipeline.flights.Answer`."""
        token = self._reply.tokens[index]
        return Choice(token) if token >= 0 else sequence.sampler.choose(self._logits[-1 - token])
