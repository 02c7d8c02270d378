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
from autoglm.model.native.prefill import PrefillKernels
from autoglm.model.native.tower import TowerKernels
from autoglm.model.registry import Model
from autoglm.parallel.collectives import ALONE, Communicator

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


def row_positions(chunk: Chunk) -> list[tuple[int, int, int]]:
    """Of each row of a chunk of decoding."""
    sequence, at = chunk.sequence, chunk.start
    found = [(one, one, one) for one in range(at + sequence.delta, chunk.end + sequence.delta)]
    if at < sequence.prompt_len:
        first, second, third = sequence.positions[:, at].tolist()
        found[0] = (first, second, third)
    return found


def images_seen(chunk: Chunk) -> tuple[int, ...]:
    """Images that the rows of a chunk of decoding see by cross-attention: all the same."""
    for sight in chunk.sequence.sights:
        first, last = sight.overlap(chunk.start, chunk.end)
        if first < last:
            return sight.images
    return ()


def decoding_rows(chunks: Seq[Chunk]) -> int:
    """Rows of a step of decoding, drafts included; 0: it computes something else, too."""
    rows = sum(chunk.count for chunk in chunks)
    return rows if rows == len(chunks) + sum(len(chunk.draft) for chunk in chunks) else 0


def is_text(chunk: Chunk) -> bool:
    """Whether no row stands for an image; a generated token never does."""
    sequence = chunk.sequence
    return chunk.start >= sequence.prompt_len or not sequence.needed_images(chunk.start, chunk.end)


@dataclass(slots=True)
class RowState:
    """A sequence as the kernels see it, for as long as it holds ``table``."""

    table: BlockTable
    blocks: BlockList
    images: dict[tuple[int, ...], ImageList]


def longest_context(model: Model, config: EngineConfig, num_blocks: int) -> int:
    """Tokens that a sequence can have."""
    return min(num_blocks * config.block_size, config.context_length or model.context_length, model.context_length)


def native_decoder(
    model: Model, kv: KVStore, config: EngineConfig, num_blocks: int, stages: Communicator = ALONE
) -> NativeDecoder | None:
    """The kernels for this rank's part of a model; every rank calls it, and all have them or none.

    Args:
        stages: of the ranks in the other stages of a pipeline.

    Returns:
        ``None`` if it is switched off, not built, or does not fit the model; the log says which.
    """
    if not config.native_decode or model.device.type != "cpu":
        return None
    reason = "it was not built" if library() is None else unfit(model)
    if stages.all_reduce(model.comm.all_reduce(torch.tensor([float(reason is not None)]))).item():
        log.warning("decoding runs on torch; the native decoder is not used: %s", reason or "not all ranks have it")
        return None
    context = longest_context(model, config, num_blocks)
    seen = config.max_images * model.visual_tokens if isinstance(model, AutoGLMPhoneModel) else 0
    if config.huge_pages:
        place(_read_per_token(model))
    sizes = Sizes(config.max_decode_rows, max(context, seen), config.block_size, threads_for(model))
    return NativeDecoder(model, kv, sizes, integer_products=config.integer_products)


def prefill_on_kernels(model: Model, kv: KVStore, config: EngineConfig, num_blocks: int) -> None:
    """Have steps of more rows run on the kernels, too, and the vision tower where this stage has it."""
    if not config.native_prefill or model.comm.size > 1:
        return
    longest = longest_context(model, config, num_blocks)
    model.decoder.kernels = PrefillKernels.of(model, kv, longest, config.block_size)
    if model.has_tower:
        model.visual.blocks.kernels = TowerKernels.of(model.visual.blocks, torch.get_num_threads())


class DecodeRunner:
    """Runs the steps it can: :meth:`put`, which says so, then :meth:`compute`."""

    def __init__(self, decoder: NativeDecoder, *, image_in_sequence: bool) -> None:
        self._decoder = decoder
        self._reads_images = decoder.reads_images
        self._image_in_sequence = image_in_sequence
        self._max_rows, self._max_tokens = decoder.sizes.max_rows, decoder.sizes.max_tokens
        self._capacity = -(-self._max_tokens // decoder.sizes.block_size)

    @classmethod
    def of(
        cls, model: Model, kv: KVStore, config: EngineConfig, num_blocks: int, stages: Communicator = ALONE
    ) -> DecodeRunner | None:
        """As :func:`native_decoder`."""
        decoder = native_decoder(model, kv, config, num_blocks, stages)
        return None if decoder is None else cls(decoder, image_in_sequence=model.image_in_sequence)

    @property
    def rows_alike(self) -> int:
        """Steps of at most so many rows are computed alike, bit for bit."""
        return self._decoder.rows_alike

    def put(self, chunks: Seq[Chunk]) -> bool:
        """Take a step over; ``False``: it is not one for it, and nothing has changed."""
        if not 0 < decoding_rows(chunks) <= self._max_rows:
            return False
        rows = []
        for chunk in chunks:
            images = self._images(chunk)
            if images is None:
                return False
            rows.append((chunk, images))
        for chunk, images in rows:
            self._put(chunk, images)
        return True

    def compute(self) -> Tensor:
        """fp32 logits ``[rows sampled from, vocab]``, valid until the next call, or what a first stage gives the next
        (:meth:`NativeDecoder.run`); raises as the kernels do."""
        return self._decoder.run()

    def _put(self, chunk: Chunk, images: ImageList) -> None:
        sequence, at = chunk.sequence, chunk.start
        state = self._state(sequence)
        state.blocks.extend_to(state.table.blocks)
        # A row sees those before it: the kernels write the KV of all rows of a layer before any of them attends.
        for row, (token, position) in enumerate(zip(chunk.tokens, row_positions(chunk), strict=True), at):
            self._decoder.put(token, position, row + 1, state.blocks, images, wanted=chunk.samples)

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
            return NO_IMAGES if is_text(chunk) else None
        seen = images_seen(chunk)
        return self._seen(sequence, seen) if seen else NO_IMAGES

    def _seen(self, sequence: Sequence, images: tuple[int, ...]) -> ImageList | None:
        state = self._state(sequence)
        found = state.images.get(images)
        if found is None:
            if any(i not in sequence.features for i in images):
                return None
            if not self._reads_images:  # a stage without cross-attention has nothing of them
                return NO_IMAGES
            found = ImageList([sequence.features[i] for i in images])
            if found.tokens > self._max_tokens:
                return None
            state.images[images] = found
        return found
