"""Several processes that train one model, each on its own samples; started by torchrun, alone without it.

On CPU two processes of one thread beat one of two threads: they wait for each other once a step, not at every product.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Team:
    """The processes of a run. Rank 0 measures, writes and saves."""

    def __init__(self) -> None:
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.size > 1 and not dist.is_initialized():
            dist.init_process_group("gloo")

    @property
    def leads(self) -> bool:
        """Whether this is the process that keeps the state."""
        return self.rank == 0

    def share(self, parameters: Sequence[nn.Parameter], stop: bool, spent: float) -> tuple[bool, float]:
        """Average the gradients; all stop when one wants to, and all go by rank 0's time."""
        if self.size == 1:
            return stop, spent
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        word = torch.tensor([float(stop), spent if self.leads else 0.0])
        flat = torch.cat([*(g.flatten() for g in gradients), word])
        dist.all_reduce(flat)
        _spread(flat[:-2] / self.size, parameters)
        return bool(flat[-2] > 0), float(flat[-1])

    def wait(self) -> None:
        """Until all are here: the launcher ends the others when one process leaves."""
        if self.size > 1:
            dist.barrier()


def _spread(flat: Tensor, parameters: Sequence[nn.Parameter]) -> None:
    start = 0
    for parameter in parameters:
        parameter.grad = flat[start : start + parameter.numel()].view_as(parameter)
        start += parameter.numel()
