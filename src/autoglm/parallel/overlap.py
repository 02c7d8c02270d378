"""Communication beside computation: the row-parallel product in chunks, and any communicator in the background."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from autoglm.parallel.collectives import Communicator, Handle

T = TypeVar("T")


def row_parallel_overlapped(inputs: Tensor, weight: Tensor, group: Communicator, chunks: int) -> Tensor:
    """``all_reduce(inputs @ weight.T)``; the sum of one chunk of rows travels while the next chunk is computed.

    Args:
        inputs: ``[rows, in / size]``, this rank's share of the features.
        weight: ``[out, in / size]``.
        chunks: pieces along the rows. It pays on a slow link with a core (or a stream) to spare for the transport; with
            small products or one busy core, one chunk is best.

    Returns:
        ``[rows, out]``, summed over ranks.
    """
    if chunks <= 1 or group.size == 1 or len(inputs) < chunks:
        return group.all_reduce(F.linear(inputs, weight))
    under_way = [group.all_reduce_async(F.linear(chunk, weight)) for chunk in inputs.tensor_split(chunks)]
    return torch.cat([handle.wait() for handle in under_way])


@dataclass(slots=True)
class _Later(Handle):
    """A call that runs on the background thread."""

    future: Future[Tensor]

    def wait(self) -> Tensor:
        return self.future.result()


class BackgroundCommunicator(Communicator):
    """Runs every call of ``inner`` on one thread, in the order of the calls.

    That makes ``all_reduce_async`` of any communicator (a codec, shared memory) run beside computation: their work is
    in C and leaves Python's lock. At most ``depth`` sums are under way; one more waits for the oldest.
    """

    def __init__(self, inner: Communicator, depth: int = 16) -> None:
        self.inner = inner
        self.rank, self.size = inner.rank, inner.size
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="communicator")
        self._depth = depth
        self._under_way: list[Future[Tensor]] = []

    def all_reduce(self, tensor: Tensor) -> Tensor:
        return self._run(lambda: self.inner.all_reduce(tensor))

    def all_reduce_async(self, tensor: Tensor) -> Handle:
        self._under_way = [future for future in self._under_way if not future.done()]
        if len(self._under_way) >= self._depth:
            self._under_way[0].result()
        future = self._thread.submit(self.inner.all_reduce, tensor)
        self._under_way.append(future)
        return _Later(future)

    def all_gather(self, tensor: Tensor, dim: int = -1) -> Tensor:
        return self._run(lambda: self.inner.all_gather(tensor, dim))

    def broadcast(self, tensor: Tensor, source: int = 0) -> Tensor:
        return self._run(lambda: self.inner.broadcast(tensor, source))

    def isend(self, tensor: Tensor, to: int) -> Handle:
        return self._run(lambda: self.inner.isend(tensor, to))

    def irecv(self, tensor: Tensor, source: int) -> Handle:
        return self._run(lambda: self.inner.irecv(tensor, source))

    def barrier(self) -> None:
        self._run(self.inner.barrier)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
        self.inner.close()

    def _run(self, call: Callable[[], T]) -> T:
        return self._thread.submit(call).result()
