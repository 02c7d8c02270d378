"""Communication between the ranks of one replica, behind one interface.

Tensor and pipeline parallel code, and the model's row-parallel layers, know only :class:`Communicator`. What moves the
bytes (nothing for one rank, gloo or NCCL, shared memory, a codec in front of a slow link) is chosen at the start.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._C._distributed_c10d import BroadcastOptions


class Handle(ABC):
    """A communication under way."""

    @abstractmethod
    def wait(self) -> Tensor:
        """Block until it is done; the result (for a send: what was sent). May be called again."""


@dataclass(slots=True)
class Done(Handle):
    """One that is done already."""

    tensor: Tensor

    def wait(self) -> Tensor:
        return self.tensor


@dataclass(frozen=True, slots=True)
class CSum:
    """A sum that compiled code calls by itself, in between its own work.

    Attributes:
        function: address of ``int f(void *group, void *data, uint64_t count, int type)``: adds up ``count`` float32
            (``type`` 0) in place, in order of the ranks; 0 if it went well.
        group: its first argument. check: raises for any other status.
    """

    function: int
    group: int
    check: Callable[[int], None]


class Communicator(ABC):
    """A group of ranks that call the same operations in the same order.

    ``rank`` and every peer are numbers within the group, ``0 <= rank < size``. Every rank passes tensors of one shape
    and type. A failed peer shows as :class:`RuntimeError` (or the backend's subclass) from the call that needed it.
    A wrapper (codec, statistics) forwards what it does not change to the communicator inside it.
    """

    rank: int
    size: int

    @abstractmethod
    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, the same bits on each. May write into ``tensor``, which is not to be used after."""

    @abstractmethod
    def all_gather(self, tensor: Tensor, dim: int = -1) -> Tensor:
        """The ranks' tensors, concatenated along ``dim`` in order of rank."""

    @abstractmethod
    def broadcast(self, tensor: Tensor, source: int = 0) -> Tensor:
        """``tensor`` of rank ``source``, written into ``tensor`` of the others (contiguous)."""

    @abstractmethod
    def isend(self, tensor: Tensor, to: int) -> Handle:
        """Start to send; ``tensor`` must not change before :meth:`Handle.wait`."""

    @abstractmethod
    def irecv(self, tensor: Tensor, source: int) -> Handle:
        """Start to receive into ``tensor`` (contiguous). Post every receive before the sends of the same exchange:
        gloo queues a late receive's "ready" behind its own payload, and the link then runs one way at a time."""

    @abstractmethod
    def barrier(self) -> None:
        """Return when every rank has called it."""

    def all_reduce_async(self, tensor: Tensor) -> Handle:
        """:meth:`all_reduce` that may run beside computation; not before :meth:`Handle.wait` is the result valid."""
        return Done(self.all_reduce(tensor))

    def c_sum(self) -> CSum | None:
        """:meth:`all_reduce` for compiled code, valid until :meth:`close`; ``None``: there is none."""
        return None

    def gather(self, tensor: Tensor, root: int = 0, dim: int = -1) -> Tensor:
        """On ``root`` what :meth:`all_gather` gives, on other ranks ``tensor``."""
        if self.size == 1:
            return tensor
        tensor = tensor.contiguous()
        if self.rank != root:
            self.send(tensor, root)
            return tensor
        parts = [tensor if rank == root else torch.empty_like(tensor) for rank in range(self.size)]
        for work in [self.irecv(part, rank) for rank, part in enumerate(parts) if rank != root]:
            work.wait()
        return torch.cat(parts, dim)

    def send(self, tensor: Tensor, to: int) -> None:
        """Send and wait."""
        self.isend(tensor, to).wait()

    def recv(self, tensor: Tensor, source: int) -> Tensor:
        """Receive into ``tensor`` and wait."""
        return self.irecv(tensor, source).wait()

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Free what the group holds. The others need not have come so far."""


class Alone(Communicator):
    """One rank: every sum is its own."""

    rank = 0
    size = 1

    def all_reduce(self, tensor: Tensor) -> Tensor:
        return tensor

    def all_gather(self, tensor: Tensor, dim: int = -1) -> Tensor:  # noqa: ARG002
        return tensor

    def broadcast(self, tensor: Tensor, source: int = 0) -> Tensor:  # noqa: ARG002
        return tensor

    def isend(self, tensor: Tensor, to: int) -> Handle:  # noqa: ARG002
        raise RuntimeError(f"one rank alone has no rank {to} to send to")

    def irecv(self, tensor: Tensor, source: int) -> Handle:  # noqa: ARG002
        raise RuntimeError(f"one rank alone has no rank {source} to receive from")

    def barrier(self) -> None:
        return


ALONE = Alone()


@dataclass(slots=True)
class _Work(Handle):
    """A work object of torch.distributed, and its tensor."""

    work: Any
    tensor: Tensor
    done: bool = field(default=False, init=False)

    def wait(self) -> Tensor:
        if not self.done:
            self.work.wait()
            self.done = True
        return self.tensor


class TorchCommunicator(Communicator):
    """A process group of :mod:`torch.distributed`: gloo for tensors on the CPU, NCCL on CUDA.

    Args:
        group: one of ``dist.new_group`` (see :mod:`autoglm.parallel.mesh`), or a backend that was made directly. Its
            methods are called, not the functions of :mod:`torch.distributed`: no registry, and less Python per call.
    """

    def __init__(self, group: Any) -> None:
        self.group = group
        self.rank: int = group.rank()
        self.size: int = group.size()

    def all_reduce(self, tensor: Tensor) -> Tensor:
        return self.all_reduce_async(tensor).wait()

    def all_reduce_async(self, tensor: Tensor) -> Handle:
        tensor = tensor.contiguous()
        return _Work(self.group.allreduce([tensor]), tensor)

    def all_gather(self, tensor: Tensor, dim: int = -1) -> Tensor:
        tensor = tensor.contiguous()
        parts = [tensor if rank == self.rank else torch.empty_like(tensor) for rank in range(self.size)]
        if tensor.device.type != "cpu":
            parts[self.rank] = torch.empty_like(tensor)
            self.group.allgather([parts], [tensor]).wait()
            return torch.cat(parts, dim)
        # Not gloo's all_gather: it sends before it posts its receives, and takes twice as long on a slow link.
        others = [(self.rank + step) % self.size for step in range(1, self.size)]
        works = [self.irecv(parts[rank], rank) for rank in reversed(others)]
        works += [self.isend(tensor, rank) for rank in others]
        for work in works:
            work.wait()
        return torch.cat(parts, dim)

    def broadcast(self, tensor: Tensor, source: int = 0) -> Tensor:
        options = BroadcastOptions()
        options.rootRank = source
        self.group.broadcast([tensor], options).wait()
        return tensor

    def isend(self, tensor: Tensor, to: int) -> Handle:
        tensor = tensor.contiguous()
        return _Work(self.group.send([tensor], to, 0), tensor)

    def irecv(self, tensor: Tensor, source: int) -> Handle:
        return _Work(self.group.recv([tensor], source, 0), tensor)

    def barrier(self) -> None:
        self.group.barrier().wait()
