"""The model runner of rank 0 in a pipeline: describes micro-batches to all ranks, and computes the first stage."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autoglm.cache import PartialCopy, VisualCache
from autoglm.engine.config import EngineConfig
from autoglm.engine.pipeline.bubble import BubbleReport, PassCounter, report_of
from autoglm.engine.pipeline.flights import Answer
from autoglm.engine.pipeline.messages import MicroBatch, Reply, Times, Wish, decode_answer, without_pixels
from autoglm.engine.pipeline.stage import INTERVALS, StageRunner
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
        self._stage = StageRunner(self._executor)
        self._widths = Widths.after(model, self._stage.stage, group.plan.partition.vision)
        place = group.place
        self._last = (place.pipeline_size - 1) * place.tensor_size
        encoding = group.plan.partition.vision
        self.row_cost = group.plan.row
        self._encoding = range(encoding * place.tensor_size, (encoding + 1) * place.tensor_size)
        self._sends: deque[Handle] = deque()
        self._number = 0
        self._replies: deque[Reply] = deque()
        self._passes = PassCounter(INTERVALS)
        self._asked: list[int] | None = None
        self._worked: dict[int, list[Interval]] = {}
        self._report = BubbleReport()

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
            self._passes.launched()
        except RuntimeError as error:
            raise self._group.explain(error) from error

    def _launch(self, chunks: Seq[Chunk], sampling: Seq[Sequence]) -> None:
        self._number += 1
        wishes = [_wish(sequence.sampler) for sequence in sampling]
        if self._decode is not None and self._decode.put(chunks):
            batch = MicroBatch(self._number, self._describe_rows(chunks), wishes)
            self._order(batch)
            self._stage.prepare(batch.step)
            self._send(self._decode.compute())
        else:
            self._launch_modules(chunks, wishes)

    def _send(self, message: Tensor) -> None:
        self._sends.append(self._group.mesh.pipeline.isend(message, 1))

    def _launch_modules(self, chunks: Seq[Chunk], wishes: list[Wish]) -> None:
        users, fresh = self._missing(chunks)
        known = [(s, i) for s, i in users if (s.salt, s.images[i].image.digest) not in fresh]
        self._settle(known, {})
        new = {key: self._images.take() for key in fresh}
        batch = MicroBatch(self._number, self._describe(chunks, fresh, new), wishes)
        self._order(batch)
        after, features = self._stage.run(batch, None)
        self._send(self._widths.pack(after))
        if fresh and (not features or not self.model.image_in_sequence):
            tensors = [one.tensors for one in features] or [()] * len(fresh)
            features = [SpreadFeatures(held, whole_feature_bytes(self.model)) for held in tensors]
            self._images.held.update(zip(new.values(), features, strict=True))
        for number, one in zip(new.values(), features, strict=True):
            self._images.remember(one, number)
        self._settle([u for u in users if u not in known], dict(zip(fresh, features, strict=True)))

    def ready(self) -> bool:
        """Whether an answer is there."""
        while not self._replies and self._group.ready(self._last):
            self._take(self._last)
        return bool(self._replies)

    def land(self) -> Answer:
        """The oldest answer. Raises :class:`RankLostError`."""
        while not self._replies:
            self._take(self._last)
        self._passes.landed()
        return _Answer(self._replies.popleft(), self.model.vocab_size)

    def intervals(self) -> list[list[Interval]]:
        """When each stage computed, since it was last asked; only while nothing is in flight."""
        self._told(wait=True)
        self._ask()
        return self._told(wait=True)

    def bubble(self) -> BubbleReport:
        """Of the latest passes that all stages have told about. What they did since is asked for; with micro-batches
        in flight nobody waits, and a later call has it."""
        self._told(wait=False)
        self._ask()
        self._told(wait=not self._passes.in_flight)
        return self._report

    def _ask(self) -> None:
        """Have every stage tell when it worked; all do so after the same micro-batch, since orders keep their order."""
        if self._asked is not None:
            return
        self._asked = self._passes.cut()
        self._worked = {0: list(self._stage.intervals)}
        self._stage.intervals.clear()
        order = encode(Times())
        for rank in range(1, self._group.place.world_size):
            self._group.send(rank, order)

    def _told(self, *, wait: bool) -> list[list[Interval]]:
        """Take in what the stages tell; once all have, it counts."""
        size = self._group.place.tensor_size
        for rank in range(size, self._group.place.world_size, size):
            while self._asked is not None and rank // size not in self._worked and (wait or self._group.ready(rank)):
                self._take(rank)
        if self._asked is None or len(self._worked) < self._group.place.pipeline_size:
            return []
        intervals = [self._worked[stage] for stage in sorted(self._worked)]
        self._report = report_of(self._asked, intervals) or self._report
        self._asked = None
        return intervals

    def _take(self, rank: int) -> None:
        """The next message of a stage's first rank."""
        answer = decode_answer(self._group.receive(rank))
        if isinstance(answer, Reply):
            self._replies.append(answer)
        else:
            self._worked[rank // self._group.place.tensor_size] = answer.intervals

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
