"""Steps of few rows on the native decoder: what it needs of each sequence, kept from step to step."""

from __future__ import annotations

import logging
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autoglm.cache import BlockTable
from autoglm.engine.config import EngineConfig
from autoglm.engine.scheduler import Chunk
from autoglm.engine.sequence import Sequence
from autoglm.model.autoglm_phone import AutoGLMPhoneModel
from autoglm.model.context import KVStore
from autoglm.model.native.decoder import NO_IMAGES, BlockList, ImageList, NativeDecoder
from autoglm.model.native.description import Sizes, unfit
from autoglm.model.native.library import library
from autoglm.model.native.placement import place
from autoglm.model.registry import Model

log = logging.getLogger(__name__)


_BYTES_PER_THREAD = 16 * 2**20


def threads_for(model: Model) -> int:
    """Torch's number, but no more than one for each 16 MB of weights a step reads: below, waiting costs more."""
    tensors = [*model.decoder.layers.parameters(), *model.decoder.layers.buffers(), *model.lm_head.parameters()]
    size = sum(t.nbytes for t in [*tensors, *model.lm_head.buffers()])
    return max(1, min(torch.get_num_threads(), -(-size // _BYTES_PER_THREAD)))


def _read_per_token(model: Model) -> list[nn.Module]:
    modules: list[nn.Module] = [model.decoder.layers, model.lm_head]
    return [*modules, *model.cross_attention] if isinstance(model, AutoGLMPhoneModel) else modules


@dataclass(slots=True)
class RowState:
    """A sequence as the kernels see it, for as long as it holds ``table``."""

    table: BlockTable
    blocks: BlockList
    images: dict[tuple[int, ...], ImageList]


class DecodeRunner:
    """Runs the steps it can; :meth:`run` gives ``None`` for the others, which are torch's."""

    def __init__(self, model: Model, kv: KVStore, config: EngineConfig, context_length: int) -> None:
        self._image_in_sequence = model.image_in_sequence
        seen = config.max_images * model.visual_tokens if isinstance(model, AutoGLMPhoneModel) else 0
        tokens = max(context_length, seen)
        self._capacity = -(-context_length // config.block_size)
        self._max_rows, self._max_tokens = config.max_decode_rows, tokens
        sizes = Sizes(self._max_rows, tokens, config.block_size, threads_for(model))
        if config.huge_pages:
            place(_read_per_token(model))
        self._decoder = NativeDecoder(model, kv, sizes, integer_products=config.integer_products)

    @classmethod
    def of(cls, model: Model, kv: KVStore, config: EngineConfig, context_length: int) -> DecodeRunner | None:
        """``None`` if it is switched off, not built, or does not fit the model; the log says which."""
        if not config.native_decode or model.device.type != "cpu":
            return None
        reason = "it was not built" if library() is None else unfit(model)
        if reason is not None:
            log.warning("decoding runs on torch; the native decoder is not used: %s", reason)
            return None
        return cls(model, kv, config, context_length)

    def run(self, chunks: Seq[Chunk]) -> Tensor | None:
        """fp32 logits ``[rows sampled from, vocab]``, valid until the next call; ``None``: not a step for it."""
        rows_in_all = sum(chunk.count for chunk in chunks)
        if rows_in_all > self._max_rows or rows_in_all != len(chunks) + sum(len(chunk.draft) for chunk in chunks):
            return None
        rows = []
        for chunk in chunks:
            images = self._images(chunk)
            if images is None:
                return None
            rows.append((chunk, images))
        for chunk, images in rows:
            self._put(chunk, images)
        return self._decoder.run()

    def _put(self, chunk: Chunk, images: ImageList) -> None:
        sequence, at = chunk.sequence, chunk.start
        state = self._state(sequence)
        state.blocks.extend_to(state.table.blocks)
        if at >= sequence.prompt_len:
            one = at + sequence.delta
            position = (one, one, one)
        else:
            first, second, third = sequence.positions[:, at].tolist()
            position = (first, second, third)
        self._decoder.put(sequence.token_ids[at], position, at + 1, state.blocks, images, wanted=chunk.samples)
        # A row sees those before it: the kernels write the KV of all rows of a layer before any of them attends.
        for row, token in enumerate(chunk.draft, at + 1):
            one = row + sequence.delta
            self._decoder.put(token, (one, one, one), row + 1, state.blocks, images)

    def _state(self, sequence: Sequence) -> RowState:
        table = sequence.table
        if table is None:
            raise RuntimeError(f"sequence {sequence.request_id} runs without a block table")
        state = sequence.row_state
        if state is None or state.table is not table:
            state = sequence.row_state = RowState(table, BlockList(self._capacity), {})
        return state

    def _images(self, chunk: Chunk) -> ImageList | None:
        """What the chunk's row sees; ``None`` if an image is not encoded yet, or stands in its place."""
        sequence = chunk.sequence
        if self._image_in_sequence:
            # A generated token is never an image.
            if chunk.start >= sequence.prompt_len or not sequence.needed_images(chunk.start, chunk.end):
                return NO_IMAGES
            return None
        for sight in sequence.sights:
            first, last = sight.overlap(chunk.start, chunk.end)
            if first < last:
                return self._seen(sequence, sight.images)
        return NO_IMAGES

    def _seen(self, sequence: Sequence, images: tuple[int, ...]) -> ImageList | None:
        state = self._state(sequence)
        found = state.images.get(images)
        if found is None:
            if any(i not in sequence.features for i in images):
                return None
            found = ImageList([sequence.features[i] for i in images])
            if found.tokens > self._max_tokens:
                return None
            state.images[images] = found
        return found
