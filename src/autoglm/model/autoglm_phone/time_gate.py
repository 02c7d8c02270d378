"""The learnable gate that aligns the text stream with the image stream.

For a text row ``t`` and a visual token ``v`` it gives a soft mask ``M[t, v]`` in (0, 1) from the similarity of
the two, ``sigmoid(scale * <q_t, k_v> / sqrt(rank) + bias)`` with low-rank, RMS-normalised ``q`` and ``k``.
``log M`` is added to the logits of every gated cross-attention module, so a visual token that does not match
the moment of the text is faded out of all of them. Both lengths are free. An entry depends on one text row and
one visual token only, so batching, chunking and caching leave it unchanged.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoglm.model.layers import RMSNorm, Spread
from autoglm.parallel.tensor import gather_shares


class TimeGate(Spread):
    """Soft mask from cross-modal similarity.

    Weights: ``text_proj.weight``, ``visual_proj.weight`` ``[rank, hidden]``; ``text_norm.weight``,
    ``visual_norm.weight`` ``[rank]``; scalars ``scale``, ``bias``.
    """

    def __init__(self, hidden_size: int, rank: int, eps: float) -> None:
        super().__init__()
        self.rank = rank
        self.text_proj = nn.Linear(hidden_size, rank, bias=False)
        self.visual_proj = nn.Linear(hidden_size, rank, bias=False)
        self.text_norm = RMSNorm(rank, eps)
        self.visual_norm = RMSNorm(rank, eps)
        self.scale = nn.Parameter(torch.ones(()))
        self.bias = nn.Parameter(torch.zeros(()))

    def visual_keys(self, visual: Tensor) -> Tensor:
        """``[tokens, hidden]`` projected visual features -> ``[tokens, rank]``; computed once per image."""
        keys: Tensor = self.visual_norm(self._whole(self.visual_proj(visual)))
        return keys

    def text_queries(self, hidden: Tensor) -> Tensor:
        """``[rows, hidden]`` output of the text stream -> ``[rows, rank]``."""
        queries: Tensor = self.text_norm(self._whole(self.text_proj(hidden)))
        return queries

    def _whole(self, part: Tensor) -> Tensor:
        return gather_shares(part, self.rank, self.comm, everywhere=True)

    def log_mask(self, queries: Tensor, keys: Tensor) -> Tensor:
        """``log M``, ``[rows, tokens]``, in the dtype of ``queries``.

        Computed in at least float32 with ``logsigmoid``: it stays finite where ``M`` itself underflows.
        """
        exact = torch.promote_types(queries.dtype, torch.float32)
        similarity = queries.to(exact) @ keys.to(exact).t()
        logits = self.scale.to(exact) / math.sqrt(self.rank) * similarity + self.bias.to(exact)
        return F.logsigmoid(logits).to(queries.dtype)

    def forward(self, hidden: Tensor, visual: Tensor) -> Tensor:
        """``log M`` of raw streams: ``[rows, hidden]`` and ``[tokens, hidden]`` -> ``[rows, tokens]``."""
        return self.log_mask(self.text_queries(hidden), self.visual_keys(visual))
