"""Frequency and presence penalties: a list of the tokens generated so far, not a vector over the vocabulary.

The phone client asks for temperature 0 and a frequency penalty, so this is on the way of every token.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from autoglm.model.native.library import argmax_minus, library

_FIRST_CAPACITY = 64


class CountPenalties:
    """What is taken off the logits of tokens generated before: ``frequency * count + presence``."""

    def __init__(self, frequency: float, presence: float) -> None:
        self._frequency, self._presence = frequency, presence
        self._counts: dict[int, int] = {}
        self._places: dict[int, int] = {}
        self._ids = np.zeros(_FIRST_CAPACITY, np.int64)
        self._amounts = np.zeros(_FIRST_CAPACITY, np.float32)
        self._locate()

    def record(self, token: int) -> None:
        """Account for a generated token."""
        count = self._counts[token] = self._counts.get(token, 0) + 1
        place = self._places.setdefault(token, len(self._places))
        if place == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
            self._amounts = np.concatenate([self._amounts, np.zeros_like(self._amounts)])
            self._locate()
        self._ids[place] = token
        self._amounts[place] = self._frequency * count + self._presence

    def apply(self, logits: Tensor) -> None:
        """Take them off fp32 ``logits [vocab]``."""
        count = len(self._places)
        ids = torch.from_numpy(self._ids[:count]).to(logits.device)
        logits[ids] -= torch.from_numpy(self._amounts[:count]).to(logits.device)

    def amounts(self) -> tuple[list[int], list[float]]:
        """Token ids, and what :meth:`apply` takes off each."""
        count = len(self._places)
        return self._ids[:count].tolist(), self._amounts[:count].tolist()

    def amounts_after(self, tokens: Sequence[int]) -> tuple[list[int], list[float]]:
        """As :meth:`amounts`, had ``tokens`` been generated, too."""
        ids, amounts = self.amounts()
        for token in dict.fromkeys(tokens):
            amount = self._frequency * (self._counts.get(token, 0) + tokens.count(token)) + self._presence
            place = self._places.get(token)
            if place is None:
                ids.append(token)
                amounts.append(amount)
            else:
                amounts[place] = amount
        return ids, amounts

    @property
    def addresses(self) -> tuple[int, int, int]:
        """Of int64 ids, of float32 amounts, and how many; until the next :meth:`record`."""
        return self._ids_at, self._amounts_at, len(self._places)

    def _locate(self) -> None:
        self._ids_at, self._amounts_at = self._ids.ctypes.data, self._amounts.ctypes.data


def best_token(logits: Tensor, row: int, penalties: CountPenalties | None) -> int:
    """Arg-max of a row of fp32 ``logits [rows, vocab]`` (may be overwritten) under penalties; the first of equals."""
    if library() is not None and logits.device.type == "cpu" and logits.is_contiguous():
        vocab = logits.shape[1]
        ids, amounts, count = (0, 0, 0) if penalties is None else penalties.addresses
        return argmax_minus(logits.data_ptr() + row * vocab * logits.itemsize, vocab, ids, amounts, count)
    return _best_by_torch(logits[row], penalties)


@torch.inference_mode()
def _best_by_torch(logits: Tensor, penalties: CountPenalties | None) -> int:
    if penalties is not None:
        penalties.apply(logits)
    return int(logits.argmax())
