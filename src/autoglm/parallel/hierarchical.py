"""Sums in two levels: within each host, then between the hosts' first ranks, then back within the host.

A flat ring sends every rank's share over the network. Here a message crosses it once a host; inside a host it goes over
shared memory.
"""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from autoglm.parallel.collectives import Communicator, Handle, TorchCommunicator
from autoglm.parallel.shm import open_shared_memory


class HierarchicalCommunicator(Communicator):
    """Sums by host; gathers, broadcasts and messages between two ranks go by the flat group.

    Args:
        flat: all ranks.
        inside: the ranks of this host, this host's first rank at 0.
        between: the first ranks of all hosts; ``None`` on any other rank.
    """

    def __init__(self, flat: Communicator, inside: Communicator, between: Communicator | None) -> None:
        self.rank, self.size = flat.rank, flat.size
        self.flat = flat
        self.inside = inside
        self.between = between

    def all_reduce(self, tensor: Tensor) -> Tensor:
        tensor = self.inside.all_reduce(tensor.contiguous())
        if self.between is not None:
            tensor = self.between.all_reduce(tensor)
        return self.inside.broadcast(tensor, 0)

    def all_gather(self, tensor: Tensor, dim: int = -1) -> Tensor:
        return self.flat.all_gather(tensor, dim)

    def broadcast(self, tensor: Tensor, source: int = 0) -> Tensor:
        return self.flat.broadcast(tensor, source)

    def isend(self, tensor: Tensor, to: int) -> Handle:
        return self.flat.isend(tensor, to)

    def irecv(self, tensor: Tensor, source: int) -> Handle:
        return self.flat.irecv(tensor, source)

    def barrier(self) -> None:
        self.flat.barrier()

    def close(self) -> None:
        for group in (self.between, self.inside, self.flat):
            if group is not None:
                group.close()


def open_by_host(flat: TorchCommunicator, *, host: str | None = None, timeout: float = 30.0) -> Communicator:
    """``flat`` in two levels, with shared memory inside each host; shared memory alone where there is one host.

    Every rank of ``flat`` calls this.

    Args:
        host: what this rank's host is called; ranks of one name share memory. ``None``: found out (host name, boot,
            network namespace).
        timeout: of shared memory, in seconds.
    """
    name = _host() if host is None else host
    digest = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "big")
    hosts = flat.all_gather(torch.tensor([digest]), 0).tolist()
    if len(set(hosts)) == 1:
        return open_shared_memory(flat, timeout=timeout)
    if len(set(hosts)) == flat.size:
        return flat  # nothing to gain with one rank a host
    members = dist.get_process_group_ranks(flat.group)
    own = [rank for rank in range(flat.size) if hosts[rank] == digest]
    firsts = [hosts.index(other) for other in dict.fromkeys(hosts)]
    group = _subgroup([members[rank] for rank in own])
    inside = open_shared_memory(group, timeout=timeout) if group.size > 1 else group
    between = _subgroup([members[rank] for rank in firsts] if flat.rank in firsts else [members[flat.rank]])
    return HierarchicalCommunicator(flat, inside, between if flat.rank in firsts else None)


def _subgroup(ranks: list[int]) -> TorchCommunicator:
    """Only its members take part: the rest of the world may be busy.

    torch names a group by its ranks and by how many groups its maker has. So each rank makes two, if one of itself
    alone: with fewer, names would differ and the next group would wait for ever.
    """
    return TorchCommunicator(dist.new_group(ranks, use_local_synchronization=True))


def _host() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    started = boot.read_text(encoding="ascii").strip() if boot.exists() else ""
    return f"{socket.gethostname()} {started} {os.stat('/proc/self/ns/net').st_ino}"
