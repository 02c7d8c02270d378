"""Steps of few rows on torch, with static shapes and buffers: what a CUDA graph can replay.

Rows are padded to a size from a short list. The published layout's step is recorded whole, to the logits. Of the
described layout the layers before the first cross-attention are: the others read images, whose memory differs from
sequence to sequence.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Sequence as Seq
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from autoglm.engine.config import EngineConfig
from autoglm.engine.decode import decoding_rows, is_text, longest_context, row_positions
from autoglm.engine.row_buffers import RowBuffers, RowInputs
from autoglm.engine.rows import visual_spans
from autoglm.engine.scheduler import Chunk
from autoglm.model.autoglm_phone import AutoGLMPhoneModel
from autoglm.model.autoglm_phone.model import TextStream
from autoglm.model.context import ForwardContext, KVStore
from autoglm.model.cuda.choice import paged_attention_of
from autoglm.model.cuda.recording import CudaGraphs, Eager, Recorder, Recording, Recordings
from autoglm.model.paged import gather
from autoglm.model.registry import Model

log = logging.getLogger(__name__)


def wanted(config: EngineConfig, device: torch.device) -> bool:
    """Whether decode steps have static shapes on this device; the KV memory then has one block more, for padding."""
    if config.paged_attention == "off" or config.world_size > 1:
        return False
    return device.type == "cuda" or config.decode_graphs == "eager"


def encoder_recorder(config: EngineConfig, device: torch.device) -> Recorder | None:
    """What records image encoding; ``None``: nothing does."""
    if not config.encoder_graphs or config.world_size > 1:
        return None
    if config.decode_graphs == "eager":
        return Eager()
    return CudaGraphs(device) if device.type == "cuda" else None


def row_sizes(most: int) -> list[int]:
    """Numbers of rows that steps are padded to: powers of two, and the most there can be."""
    return [*(1 << power for power in range((most - 1).bit_length())), most]


class StaticDecode:
    """Runs the steps it can: :meth:`put`, which says so, then :meth:`compute`."""

    def __init__(self, model: Model, kv: KVStore, config: EngineConfig, context_length: int) -> None:
        device = model.device
        spec, block = model.kv_spec, config.block_size
        self._model, self._kv = model, kv
        self.sizes = row_sizes(config.max_decode_rows)
        columns = -(-(context_length + config.draft_tokens) // block)
        self._block_size, self._tokens = block, columns * block
        scratch = kv.keys.shape[2] // block - 1
        self._buffers = RowBuffers(self.sizes[-1], columns, block, scratch, device)
        heads = model.decoder.config.num_heads
        self._attention = paged_attention_of(config.paged_attention, kv, heads, spec.num_kv_heads, block)
        recorder: Recorder = CudaGraphs(device) if device.type == "cuda" and config.decode_graphs == "auto" else Eager()
        # Gathering costs what the tables are wide, so it has a recording for each of some widths.
        self._widths = [columns] if self._attention is not gather else row_sizes(columns)
        most = len(self.sizes) * len(self._widths)
        self.recordings: Recordings[tuple[int, int], Tensor | TextStream] = Recordings(
            "decode step of (rows, blocks)", recorder, most, config.graph_bytes, evict=False
        )
        self._step: tuple[Recording[Tensor | TextStream], Seq[Chunk], int, int] | None = None

    @classmethod
    def of(cls, model: Model, kv: KVStore, config: EngineConfig, num_blocks: int) -> StaticDecode | None:
        """``None`` if it is switched off, or the device has no use for it."""
        if not wanted(config, model.device):
            return None
        return cls(model, kv, config, longest_context(model, config, num_blocks))

    @property
    def rows_alike(self) -> int:
        """0: a padded step's products depend on its size."""
        return 0

    @torch.inference_mode()
    def put(self, chunks: Seq[Chunk]) -> bool:
        """Take a step over; ``False``: it is not one for it."""
        rows = decoding_rows(chunks)
        if not 0 < rows <= self.sizes[-1]:
            return False
        # Reading a sampled token waits for the step; without one the buffers could be filled again too early.
        if not all(self._fits(chunk) for chunk in chunks) or not any(chunk.samples for chunk in chunks):
            return False
        longest = max(chunk.end for chunk in chunks)
        if longest > self._tokens:
            return False
        first = 0
        for chunk in chunks:
            self._put(first, chunk)
            first += chunk.count
        size = self.sizes[bisect_left(self.sizes, rows)]
        width = self._widths[bisect_left(self._widths, -(-longest // self._block_size))]
        self._buffers.send(rows, size)
        recording = self.recordings.get((size, width), partial(self._front, size, width))
        if recording is None:
            return False
        self._step = (recording, chunks, rows, width)
        return True

    @torch.inference_mode()
    def compute(self) -> Tensor:
        """fp32 logits ``[rows sampled from, vocab]`` of the step put last, valid until the next call."""
        assert self._step is not None  # put comes first
        (recording, chunks, rows, width), self._step = self._step, None
        result = recording.replay()
        logits = result[:rows] if isinstance(result, Tensor) else self._join(result, chunks, rows, width)
        sampled = _sampled_rows(chunks)
        return logits if len(sampled) == rows else logits[torch.tensor(sampled, device=logits.device)]

    def _fits(self, chunk: Chunk) -> bool:
        sequence = chunk.sequence
        if self._model.image_in_sequence:
            return is_text(chunk)
        return all(index in sequence.features for index in sequence.needed_images(chunk.start, chunk.end))

    def _put(self, first: int, chunk: Chunk) -> None:
        sequence = chunk.sequence
        if sequence.table is None:
            raise RuntimeError(f"sequence {sequence.request_id} runs without a block table")
        for offset, (token, position) in enumerate(zip(chunk.tokens, row_positions(chunk), strict=True)):
            self._buffers.put(first + offset, token, position, chunk.start + offset + 1, sequence.table)

    def _front(self, size: int, width: int) -> Tensor | TextStream:
        """What is recorded: reads the buffers only."""
        model, inputs = self._model, self._buffers.inputs(size, width, self._attention)
        context = _context(inputs, self._kv)
        hidden = model.embed_tokens(inputs.ids)
        if isinstance(model, AutoGLMPhoneModel):
            return model.text_stream(hidden, context)
        return model.compute_logits(model.forward(hidden, context))

    def _join(self, stream: TextStream, chunks: Seq[Chunk], rows: int, width: int) -> Tensor:
        """The rest of the described layout's step, without the padding."""
        model = self._model
        assert isinstance(model, AutoGLMPhoneModel)  # only its step gives a stream
        context = _context(self._buffers.inputs(rows, width, self._attention), self._kv)
        context.visual = visual_spans(chunks)
        plan = replace(stream.plan, rotations=stream.plan.rotations[:rows])
        return model.compute_logits(model.join(TextStream(stream.hidden[:rows], plan), context))


def _context(inputs: RowInputs, kv: KVStore) -> ForwardContext:
    return ForwardContext(inputs.positions, inputs.slots, [], kv, paged=inputs.paged)


def _sampled_rows(chunks: Seq[Chunk]) -> list[int]:
    rows: list[int] = []
    end = 0
    for chunk in chunks:
        end += chunk.count
        rows += range(end - chunk.sampled, end)
    return rows
