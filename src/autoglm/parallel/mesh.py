"""The ranks of a replica as a mesh of pipeline stages by tensor ranks, and the groups they communicate in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import Store

from autoglm.errors import InvalidInputError
from autoglm.parallel.collectives import ALONE, Communicator, TorchCommunicator


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rank stands: ranks of one stage are neighbours, so that tensor groups stay within a host."""

    rank: int
    tensor_size: int
    pipeline_size: int = 1

    def __post_init__(self) -> None:
        for name in ("tensor_size", "pipeline_size"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} must be at least 1", field=name, limit=1, value=getattr(self, name))
        if not 0 <= self.rank < self.world_size:
            raise InvalidInputError(
                f"rank {self.rank} does not exist among {self.pipeline_size} stages of {self.tensor_size} ranks",
                field="rank",
                limit=self.world_size - 1,
                value=self.rank,
            )

    @property
    def world_size(self) -> int:
        return self.tensor_size * self.pipeline_size

    @property
    def stage(self) -> int:
        return self.rank // self.tensor_size

    @property
    def tensor_rank(self) -> int:
        return self.rank % self.tensor_size

    def tensor_groups(self) -> list[list[int]]:
        """Ranks of each stage."""
        return [[s * self.tensor_size + t for t in range(self.tensor_size)] for s in range(self.pipeline_size)]

    def pipeline_groups(self) -> list[list[int]]:
        """Ranks of equal tensor rank, from the first stage to the last."""
        return [[s * self.tensor_size + t for s in range(self.pipeline_size)] for t in range(self.tensor_size)]


@dataclass(frozen=True, slots=True)
class Mesh:
    """A rank's communicators.

    Attributes:
        tensor: the ranks of its own stage. pipeline: its own tensor rank in every stage, in order of stages.
    """

    place: Place
    tensor: Communicator = ALONE
    pipeline: Communicator = ALONE

    def close(self) -> None:
        """Leave all groups."""
        for communicator in (self.tensor, self.pipeline):
            communicator.close()
        if dist.is_initialized():
            dist.destroy_process_group()


def join_mesh(store: Store, place: Place, device: torch.device, timeout: float) -> Mesh:
    """Meet the other ranks and make the groups; blocks until all have come.

    Args:
        store: common to the ranks of this life of the replica, not used before.
        device: decides the backend: NCCL for CUDA, else gloo.
        timeout: seconds after which a collective that a peer does not join fails.
    """
    if place.world_size == 1:
        return Mesh(place)
    limit = timedelta(seconds=timeout)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=place.rank, world_size=place.world_size, timeout=limit)
    return Mesh(
        place,
        tensor=_own_group(place.tensor_groups(), place.rank, limit),
        pipeline=_own_group(place.pipeline_groups(), place.rank, limit),
    )


def _own_group(groups: list[list[int]], rank: int, limit: timedelta) -> Communicator:
    """Every rank takes part in making every group, in the same order."""
    found: Communicator = ALONE
    for ranks in groups:
        if len(ranks) == 1:
            continue
        group = dist.new_group(ranks, timeout=limit)
        if rank in ranks:
            found = TorchCommunicator(group)
    return found
