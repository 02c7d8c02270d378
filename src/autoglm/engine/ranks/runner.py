"""The model runner of rank 0: describes each step to the other ranks, and computes its own part of it."""

from __future__ import annotations

import weakref
from collections.abc import MutableMapping
from collections.abc import Sequence as Seq
from itertools import count

import msgspec
import numpy as np
import torch
from torch import Tensor

from autoglm.cache import PartialCopy, VisualCache
from autoglm.engine.budget import FeatureKey
from autoglm.engine.config import EngineConfig
from autoglm.engine.decode import DecodeRunner, images_seen, prefill_on_kernels, row_positions
from autoglm.engine.ranks.executor import StepExecutor
from autoglm.engine.ranks.group import RankGroup
from autoglm.engine.ranks.messages import NewImage, Part, Span, Splice, Step
from autoglm.engine.rows import image_rows, seeing_rows
from autoglm.engine.runner import ModelRunner
from autoglm.engine.scheduler import Chunk
from autoglm.engine.sequence import Sequence
from autoglm.model.context import ForwardContext, ImageFeatures
from autoglm.model.registry import Model
from autoglm.prompt import ProcessedImage


class RankRunner(ModelRunner):
    """As its base, on the ranks of ``group``."""

    def __init__(
        self,
        model: Model,
        num_blocks: int,
        config: EngineConfig,
        visual: VisualCache[ImageFeatures],
        group: RankGroup,
    ) -> None:
        super().__init__(model, num_blocks, msgspec.structs.replace(config, native_decode=False), visual)
        self._group = group
        self._images = Numbers()
        self._copies: list[tuple[int, int, int]] = []
        self._executor = StepExecutor(model, self._kv, config.block_size, self._images.held)
        group.begin(num_blocks)
        self._decode = DecodeRunner.of(model, self._kv, config, num_blocks, group.mesh.pipeline)
        if self._decode is not None:
            prefill_on_kernels(model, self._kv, config, num_blocks)

    def copy(self, copy: PartialCopy) -> None:
        super().copy(copy)
        self._copies.append((copy.source, copy.target, copy.tokens))

    def close(self) -> None:
        self._group.close()

    def run(self, chunks: Seq[Chunk]) -> Tensor:
        if self._decode is None or not self._decode.put(chunks):
            return self._run_modules(chunks)
        try:
            self._group.order(self._describe_rows(chunks))
            return self._decode.compute()
        except RuntimeError as error:
            raise self._group.explain(error) from error

    @torch.inference_mode()
    def _run_modules(self, chunks: Seq[Chunk]) -> Tensor:
        users, fresh = self._missing(chunks)
        known = [(s, i) for s, i in users if (s.salt, s.images[i].image.digest) not in fresh]
        self._settle(known, {})
        new = {key: self._images.take() for key in fresh}
        step = self._describe(chunks, fresh, new)
        try:
            self._group.order(step)
            logits, features = self._executor.run(step)
        except RuntimeError as error:
            raise self._group.explain(error) from error
        for number, one in zip(new.values(), features, strict=True):
            self._images.remember(one, number)
        self._settle([u for u in users if u not in known], dict(zip(fresh, features, strict=True)))
        return logits

    def _describe(
        self, chunks: Seq[Chunk], fresh: dict[FeatureKey, ProcessedImage], new: dict[FeatureKey, int]
    ) -> Step:
        context, ids = self._context(chunks)

        def number(sequence: Sequence, index: int) -> int:
            features = sequence.features.get(index)
            if features is not None:
                return self._images.of(features)
            return new[sequence.salt, sequence.images[index].image.digest]

        copies, self._copies = self._copies, []
        rows = context.output_rows
        return Step(
            ids=_bytes(ids),
            positions=_positions(context.positions),
            parts=self._parts(context),
            output_rows=None if rows is None else _bytes(rows),
            copies=copies,
            dropped=self._images.dropped(),
            images=[
                NewImage(new[key], image.grid, image.pixels.shape, np.ascontiguousarray(image.pixels).tobytes())
                for key, image in fresh.items()
            ],
            splices=[]
            if not self.model.image_in_sequence
            else [Splice(row, count, number(s, i), offset) for row, count, offset, s, i in image_rows(chunks)],
            spans=[Span(a, b, tuple(number(s, i) for i in images)) for a, b, s, images in seeing_rows(chunks)],
        )

    def _describe_rows(self, chunks: Seq[Chunk]) -> Step:
        """A step of decoding, as the kernels of the other ranks need it."""
        ids: list[int] = []
        positions: list[tuple[int, int, int]] = []
        wanted: list[int] = []
        parts, spans = [], []
        for chunk in chunks:
            sequence, row = chunk.sequence, len(ids)
            ids += chunk.tokens
            positions += row_positions(chunk)
            if chunk.samples:
                wanted += range(row, len(ids))
            table = sequence.table
            assert table is not None  # it runs
            run_start, blocks = table.blocks[0] * self.block_size, b""
            if not table.contiguous:
                run_start, blocks = -1, np.array(table.blocks, np.int32).tobytes()
            parts.append(Part(chunk.count, chunk.end, run_start, blocks))
            if not self.model.image_in_sequence and (images := images_seen(chunk)):
                numbers = tuple(self._images.of(sequence.features[i]) for i in images)
                spans.append(Span(row, len(ids), numbers))
        copies, self._copies = self._copies, []
        return Step(
            ids=np.array(ids, np.int32).tobytes(),
            positions=np.array(positions, np.int32).T.tobytes(),
            parts=parts,
            output_rows=np.array(wanted, np.int32).tobytes(),
            copies=copies,
            dropped=self._images.dropped(),
            spans=spans,
            native=True,
        )

    def _parts(self, context: ForwardContext) -> list[Part]:
        parts = []
        for part in context.sequences:
            run, blocks = part.run_start, b""
            if run is None:
                assert part.slots is not None  # one of the two is there
                blocks = _bytes(part.slots[:: self.block_size] // self.block_size)
            parts.append(Part(part.query_len, part.context_len, -1 if run is None else run, blocks))
        return parts


class Numbers:
    """Names of visual features that all ranks share. A number is dropped once rank 0 holds its features no more."""

    def __init__(self) -> None:
        self.held: MutableMapping[int, ImageFeatures] = weakref.WeakValueDictionary()
        self._next = count()
        self._number_of: dict[int, int] = {}
        self._gone: list[int] = []

    def take(self) -> int:
        """A new number."""
        return next(self._next)

    def remember(self, features: ImageFeatures, number: int) -> None:
        """Name features by a number taken before, for as long as they live."""
        key = id(features)
        self._number_of[key] = number
        weakref.finalize(features, self._forget, key, number).atexit = False

    def of(self, features: ImageFeatures) -> int:
        """The number of features that were remembered."""
        return self._number_of[id(features)]

    def dropped(self) -> list[int]:
        """Numbers whose features have gone since the last call."""
        gone, self._gone = self._gone, []
        return gone

    def _forget(self, key: int, number: int) -> None:
        self._number_of.pop(key, None)
        self._gone.append(number)


def _bytes(tensor: Tensor) -> bytes:
    data: bytes = tensor.to("cpu", torch.int32).numpy().tobytes()
    return data


def _positions(positions: Tensor) -> bytes:
    same = bool((positions[0] == positions[1]).all() and (positions[0] == positions[2]).all())
    return _bytes(positions[0] if same else positions)
