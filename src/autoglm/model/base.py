"""What the two layouts have in common: one decoder, one head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autoglm.model.config import TextConfig
from autoglm.model.context import KVSpec
from autoglm.model.decoder import Decoder, kv_spec
from autoglm.model.layers import Spread
from autoglm.model.patches import VisionParallel
from autoglm.parallel.collectives import ALONE, Communicator
from autoglm.parallel.pipeline.partition import Stage
from autoglm.parallel.tensor import Sharding, gather_shares, share


class DecoderModel(Spread):
    """A GLM decoder with a head, named as in a checkpoint; a layout adds how images come in.

    Args:
        text: the decoder's configuration.
        parts: further modules under ``model.``, by name.

    Attributes:
        sharding: this rank's part of the weights; ``None``: all of them.
        vision_parallel: how the vision tower's work is shared out over ``vision_comm``; ``tensor``: by its own layers.
        stage: the pipeline stage it was cut to; ``None``: it is whole. elsewhere: tensors of a checkpoint that other
            stages hold.
    """

    sharding: Sharding | None = None
    vision_parallel: VisionParallel = "tensor"
    vision_comm: Communicator = ALONE
    stage: Stage | None = None
    elsewhere: frozenset[str] = frozenset()

    def __init__(self, text: TextConfig, parts: dict[str, nn.Module]) -> None:
        super().__init__()
        self.text_config = text
        self.model = nn.ModuleDict({"language_model": Decoder(text), **parts})
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)

    @property
    def decoder(self) -> Decoder:
        module = self.model["language_model"]
        assert isinstance(module, Decoder)
        return module

    @property
    def has_tower(self) -> bool:
        """Whether it has the vision tower; else another stage does."""
        return self.stage is None or self.stage.vision

    @property
    def dtype(self) -> torch.dtype:
        return next(self.decoder.parameters()).dtype  # the embeddings', or the first layer's that a stage holds

    @property
    def device(self) -> torch.device:
        return next(self.decoder.parameters()).device

    @property
    def kv_spec(self) -> KVSpec:
        return kv_spec(self.decoder, self.dtype)

    @property
    def context_length(self) -> int:
        return self.text_config.max_position_embeddings

    @property
    def vocab_size(self) -> int:
        return self.text_config.vocab_size

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """int64 ``[rows]`` -> ``[rows, hidden]``."""
        table, comm = self.decoder.embed_tokens, self.comm
        if comm.size == 1:
            out: Tensor = table(ids)
            return out
        first, end = share(self.vocab_size, comm.rank, comm.size)
        held = (ids >= first) & (ids < end)  # every other row is zero here
        return comm.all_reduce(table((ids - first).clamp(0, end - first - 1)) * held[:, None])

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """Final norm and head: ``[rows, hidden]`` -> fp32 ``[rows, vocab]``, on rank 0; others get what they hold."""
        logits: Tensor = self.lm_head(self.decoder.norm(hidden))
        if not logits.numel():
            return logits.float()
        return gather_shares(logits.float(), self.vocab_size, self.comm, everywhere=False)

    def _no_tokens(self) -> Tensor:
        """The visual tokens of no image."""
        return torch.empty(0, self.text_config.hidden_size, device=self.device, dtype=self.dtype)
