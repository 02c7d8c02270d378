"""The plain case: N workers add up a million items. Every machine shows the same curve, without any model.

Workers take pieces out of a queue, which is what a worker costs beside its share of the work. Up to the number of cores
more workers are faster; beyond it they only take turns.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import torch

from autoglm.parallel.tuning.candidates import Candidate

ITEMS = 1_000_000
_PIECES = 4
_SHORTEST = 0.05


def reduction_rate(candidate: Candidate) -> float:
    """Items a second that ``candidate.threads`` workers add up, ``candidate.data_size`` of them at a time; best of the
    repetitions that fit in a twentieth of a second, three at least."""
    items = torch.linspace(0, 1, candidate.data_size)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(candidate.threads) as workers:
            pieces = items.tensor_split(_PIECES * candidate.threads)
            best = float("inf")
            started, turns = time.perf_counter(), 0
            while turns < 3 or time.perf_counter() - started < _SHORTEST:
                begun = time.perf_counter()
                sum(workers.map(_total, pieces))
                best = min(best, time.perf_counter() - begun)
                turns += 1
    finally:
        torch.set_num_threads(before)
    return candidate.data_size / best


def _total(piece: torch.Tensor) -> float:
    """Something a core has to do for an item: a sum alone would measure the memory."""
    return float(torch.tanh(piece).double().sum())
