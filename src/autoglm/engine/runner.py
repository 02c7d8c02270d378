"""One step on the device: encode the images it needs, build its context, run the model, give the logits."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from functools import partial

import torch
from torch import Tensor

from autoglm.cache import PartialCopy, VisualCache
from autoglm.engine.budget import FeatureKey
from autoglm.engine.config import EngineConfig
from autoglm.engine.decode import DecodeRunner, prefill_on_kernels
from autoglm.engine.encoder import ImageEncoder
from autoglm.engine.rows import image_rows, visual_spans
from autoglm.engine.scheduler import Chunk
from autoglm.engine.sequence import Sequence
from autoglm.engine.static_decode import StaticDecode, wanted
from autoglm.model.autoglm_phone import AutoGLMPhoneModel
from autoglm.model.context import ForwardContext, ImageFeatures, KVStore, SequenceSlice
from autoglm.model.cuda.layers import fuse
from autoglm.model.quantized.linear import multiply_by_kernel
from autoglm.model.registry import Model
from autoglm.prompt import ProcessedImage


class ModelRunner:
    """Holds the model and the KV memory.

    Attributes:
        encoder: what encodes images.
    """

    def __init__(self, model: Model, num_blocks: int, config: EngineConfig, visual: VisualCache[ImageFeatures]) -> None:
        self.model = model
        self.block_size = block_size = config.block_size
        self._dual_streams = config.dual_streams
        self._visual = visual
        self.encoder = ImageEncoder.of(model, visual, config)
        model.decoder.kernels = None  # an engine before may have set them
        if model.has_tower:
            model.visual.blocks.kernels = None
        multiply_by_kernel(model, config.packed_kernels)
        if model.device.type == "cuda" and config.fused_layers:
            fuse(model)
        scratch = 1 if wanted(config, model.device) else 0
        self._kv = KVStore(model.kv_spec, (num_blocks + scratch) * block_size, model.device)
        self._offsets = torch.arange(block_size)
        self._decode: DecodeRunner | StaticDecode | None = DecodeRunner.of(model, self._kv, config, num_blocks)
        if isinstance(self._decode, DecodeRunner):
            prefill_on_kernels(model, self._kv, config, num_blocks)
        if self._decode is None:
            self._decode = StaticDecode.of(model, self._kv, config, num_blocks)

    @property
    def store(self) -> KVStore:
        """The memory behind the block pool."""
        return self._kv

    @property
    def rows_alike(self) -> int:
        """Steps of at most so many rows are computed alike, bit for bit; 0: it depends on the number."""
        return 0 if self._decode is None else self._decode.rows_alike

    def copy(self, copy: PartialCopy) -> None:
        """Copy-on-write of a partly matching block."""
        rows = self._offsets[: copy.tokens].to(self.model.device)
        self._kv.copy_slots(rows + copy.source * self.block_size, rows + copy.target * self.block_size)

    def close(self) -> None:
        """Let go of what is outside this thread."""
        self.encoder.close()

    def run(self, chunks: Seq[Chunk]) -> Tensor:
        """fp32 logits ``[rows sampled from, vocab]``, in order of ``chunks``; valid until the next call."""
        if self._decode is not None and self._decode.put(chunks):
            return self._decode.compute()
        return self._run_modules(chunks)

    @torch.inference_mode()
    def _run_modules(self, chunks: Seq[Chunk]) -> Tensor:
        context, ids = self._context(chunks)
        hidden = self.model.embed_tokens(ids)
        users, fresh = self._missing(chunks)
        if isinstance(self.model, AutoGLMPhoneModel):
            # The layers before the first cross-attention need no image: both streams run at once, and meet in join.
            dual = self._dual_streams and bool(fresh)
            image = partial(self.encoder.encode_step, fresh)
            features, stream = self.model.run_streams(image, hidden, context, parallel=dual)
            self.encoder.collect()
            self._settle(users, dict(zip(fresh, features, strict=True)))
            context.visual = visual_spans(chunks)
            hidden = self.model.join(stream, context)
        else:
            features = self.encoder.encode_step(fresh)
            self._settle(users, dict(zip(fresh, features, strict=True)))
            _splice(hidden, chunks)
            hidden = self.model.forward(hidden, context)
        return self.model.compute_logits(hidden)

    def _missing(self, chunks: Seq[Chunk]) -> tuple[list[tuple[Sequence, int]], dict[FeatureKey, ProcessedImage]]:
        """Who lacks which image in this step, and the images that no cache has, each once."""
        users: list[tuple[Sequence, int]] = []
        fresh: dict[FeatureKey, ProcessedImage] = {}
        for chunk in chunks:
            sequence = chunk.sequence
            for index in sequence.needed_images(chunk.start, chunk.end):
                if index in sequence.features:
                    continue
                image = sequence.images[index].image
                key = (sequence.salt, image.digest)
                users.append((sequence, index))
                if key not in self._visual:
                    fresh.setdefault(key, image)
        return users, fresh

    def _settle(self, users: list[tuple[Sequence, int]], encoded: dict[FeatureKey, ImageFeatures]) -> None:
        """Remember what was encoded, and pin for each user what it needs."""
        for sequence, index in users:
            key = (sequence.salt, sequence.images[index].image.digest)
            features = encoded.get(key)
            if features is None or key in self._visual:
                features = self._visual.pin(key)
            else:
                self._visual.counters.misses += 1
                features = self._visual.put_pinned(key, features)
            if features is None:
                raise RuntimeError("visual features vanished within a step")
            sequence.features[index] = features

    def _context(self, chunks: Seq[Chunk]) -> tuple[ForwardContext, Tensor]:
        ids: list[int] = []
        positions: list[Tensor] = []
        new_slots: list[Tensor] = []
        slices: list[SequenceSlice] = []
        last_rows: list[int] = []
        for chunk in chunks:
            sequence, row = chunk.sequence, len(ids)
            slots, run_start = self._slots(sequence)
            ids += chunk.tokens
            positions.append(_positions(sequence, chunk.start, chunk.end))
            new_slots.append(slots[chunk.start : chunk.end])
            slices.append(SequenceSlice(row, chunk.count, chunk.end, slots[: chunk.end], run_start))
            last_rows += range(len(ids) - chunk.sampled, len(ids))
        device = self.model.device
        context = ForwardContext(
            positions=torch.cat(positions, dim=1).to(device) if len(positions) > 1 else positions[0].to(device),
            new_slots=torch.cat(new_slots) if len(new_slots) > 1 else new_slots[0],
            sequences=slices,
            kv=self._kv,
            output_rows=torch.tensor(last_rows, dtype=torch.int64, device=device)
            if len(last_rows) < len(ids)
            else None,
        )
        return context, torch.tensor(ids, device=device)

    def _slots(self, sequence: Sequence) -> tuple[Tensor, int | None]:
        """Slots of all a sequence's blocks (kept until it gets another block), and the run's start if they are one."""
        table = sequence.table
        if table is None:
            raise RuntimeError(f"sequence {sequence.request_id} runs without a block table")
        count = len(table.blocks) * self.block_size
        if sequence.slots is None or sequence.slots.shape[0] != count:
            blocks = torch.tensor(table.blocks)
            slots = (blocks[:, None] * self.block_size + self._offsets).flatten()
            sequence.slots = slots.to(self.model.device)
            sequence.run_start = table.blocks[0] * self.block_size if table.contiguous else None
        return sequence.slots, sequence.run_start


def _positions(sequence: Sequence, start: int, end: int) -> Tensor:
    known = sequence.positions.shape[1]
    if end <= known:
        return sequence.positions[:, start:end]
    late = torch.arange(max(start, known), end) + sequence.delta
    if start >= known:
        return late.expand(3, -1)
    return torch.cat([sequence.positions[:, start:], late.expand(3, -1)], dim=1)


def _splice(hidden: Tensor, chunks: Seq[Chunk]) -> None:
    """Put image embeddings in the place of the placeholder rows of a step."""
    for row, count, offset, sequence, index in image_rows(chunks):
        hidden[row : row + count] = sequence.features[index].tensors[0][offset : offset + count]
