"""Collectives among the ranks of one host over shared memory, for messages of decode size.

gloo takes a fraction of a millisecond for 8 KiB on one host; copying them and a counter takes microseconds. Ranks spin
for a short while, then give their core away, then sleep, so more ranks than cores do not burn. See
``native/csrc/shm.c`` for the protocol.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import mmap
import os
import secrets
from pathlib import Path

import torch
from torch import Tensor

from autoglm.errors import InvalidInputError, RankLostError
from autoglm.parallel.collectives import Communicator, CSum, Handle
from autoglm.parallel.native.library import library

log = logging.getLogger(__name__)
CAPACITY = 2**20
"""Bytes of a slot: a message above this goes in pieces. Each piece costs a meeting of all ranks."""
_DIRECTORY = Path("/dev/shm")
_NAME_BYTES = 64
_SPIN_SECONDS = 100e-6
_TYPES = {torch.float32: 0, torch.bfloat16: 1}
_FINE, _DEAD, _HUNG, _BROKEN, _MISMATCH = range(5)
_REASONS = {_DEAD: "died", _HUNG: "did not come within the time limit", _BROKEN: "was lost before"}


class SharedMemoryCommunicator(Communicator):
    """Sums, gathers and broadcasts of CPU tensors over shared memory; the rest goes to ``inner``.

    Made by :func:`open_shared_memory`. One thread of a rank calls it at a time. After an error the group is spent.

    Raises:
        RankLostError: a peer died (seen within a tenth of a second), or came later than ``timeout`` seconds.
        InvalidInputError: ranks called different operations, or passed different sizes.
    """

    def __init__(self, inner: Communicator, memory: mmap.mmap, peers: list[int], spin: float, timeout: float) -> None:
        found = library()
        assert found is not None
        self.rank, self.size = inner.rank, inner.size
        self.inner = inner
        self.timeout = timeout
        self._library = found
        self._memory = memory
        self._peers = peers
        self._view = ctypes.c_char.from_buffer(memory)
        watch = (ctypes.c_int * self.size)(*peers)
        address = ctypes.addressof(self._view)
        nanoseconds = int(spin * 1e9), int(timeout * 1e9)
        self._group: int | None = found.autoglm_shm_open(address, self.size, self.rank, CAPACITY, watch, *nanoseconds)
        if self._group is None:
            raise InvalidInputError("shared memory serves at most 64 ranks", field="size", limit=64, value=self.size)

    def all_reduce(self, tensor: Tensor) -> Tensor:
        kind = _TYPES.get(tensor.dtype)
        if kind is None or tensor.device.type != "cpu":
            return self.inner.all_reduce(tensor)
        tensor = tensor.contiguous()
        self._check(self._library.autoglm_shm_all_reduce(self._group, tensor.data_ptr(), tensor.numel(), kind))
        return tensor

    def c_sum(self) -> CSum | None:
        if self._group is None:
            return None
        function = ctypes.cast(self._library.autoglm_shm_all_reduce, ctypes.c_void_p).value
        assert function is not None  # the library is loaded
        return CSum(function, self._group, self._check)

    def all_gather(self, tensor: Tensor, dim: int = -1) -> Tensor:
        if tensor.device.type != "cpu":
            return self.inner.all_gather(tensor, dim)
        tensor = tensor.contiguous()
        out = torch.empty((self.size, *tensor.shape), dtype=tensor.dtype)
        addresses = tensor.data_ptr(), out.data_ptr()
        self._check(self._library.autoglm_shm_all_gather(self._group, *addresses, tensor.nbytes))
        return torch.cat(out.unbind(0), dim)

    def gather(self, tensor: Tensor, root: int = 0, dim: int = -1) -> Tensor:
        if tensor.device.type != "cpu":
            return self.inner.gather(tensor, root, dim)
        if self.rank == root:
            return self.all_gather(tensor, dim)
        tensor = tensor.contiguous()
        self._check(self._library.autoglm_shm_all_gather(self._group, tensor.data_ptr(), None, tensor.nbytes))
        return tensor

    def broadcast(self, tensor: Tensor, source: int = 0) -> Tensor:
        if tensor.device.type != "cpu" or not tensor.is_contiguous():
            return self.inner.broadcast(tensor, source)
        self._check(self._library.autoglm_shm_broadcast(self._group, tensor.data_ptr(), tensor.nbytes, source))
        return tensor

    def barrier(self) -> None:
        self._check(self._library.autoglm_shm_barrier(self._group))

    def isend(self, tensor: Tensor, to: int) -> Handle:
        return self.inner.isend(tensor, to)

    def irecv(self, tensor: Tensor, source: int) -> Handle:
        return self.inner.irecv(tensor, source)

    def close(self) -> None:
        """Unmap; the memory has no name any more and goes with its last rank. ``inner`` is closed too."""
        if self._group is None:
            return
        self._library.autoglm_shm_close(self._group)
        self._group = None
        del self._view
        self._memory.close()
        for descriptor in self._peers:
            if descriptor >= 0:
                os.close(descriptor)
        self.inner.close()

    def _check(self, status: int) -> None:
        if status == _FINE:
            return
        peer = int(self._library.autoglm_shm_culprit(self._group))
        if status == _MISMATCH:
            raise InvalidInputError(
                f"rank {self.rank} and rank {peer} called different operations, or with different sizes",
                field="tensor",
                value=peer,
            )
        raise RankLostError(
            f"rank {peer} {_REASONS[status]}", field="rank", limit=self.timeout if status == _HUNG else None, value=peer
        )


def open_shared_memory(inner: Communicator, *, timeout: float = 30.0, spin: float | None = None) -> Communicator:
    """The ranks of ``inner`` with shared memory among them, or ``inner`` itself where a rank cannot have it.

    Every rank calls this. It cannot be had across hosts, without the compiled library, or when the host's shared
    memory is full; then all ranks go on with ``inner``, and the log says so.

    Args:
        timeout: seconds after which a peer that does not come counts as hung.
        spin: seconds of waiting without giving the core away; ``None``: none where ranks outnumber the cores.
    """
    if inner.size == 1:
        return inner
    if spin is None:
        spin = _SPIN_SECONDS if inner.size <= len(os.sched_getaffinity(0)) else 0.0
    name = torch.zeros(_NAME_BYTES, dtype=torch.uint8)
    memory: mmap.mmap | None = None
    if inner.rank == 0:
        file, memory = _create(inner.size)
        name[: len(file)] = torch.tensor(list(file.encode()), dtype=torch.uint8)
    inner.broadcast(name)
    file = bytes(name.tolist()).rstrip(b"\0").decode()
    if inner.rank != 0 and file:
        memory = _map(file)
    here = inner.all_gather(torch.tensor([os.getpid(), _namespace(), int(memory is not None)]), 0).view(-1, 3)
    if inner.rank == 0 and file:
        with contextlib.suppress(FileNotFoundError):
            (_DIRECTORY / file).unlink()  # no name from here on: nothing is left behind, whatever ends us
    if memory is None or not bool(here[:, 2].all()):
        log.warning("no shared memory among these %d ranks; they go on without", inner.size)
        return inner
    watch = [_watch(int(pid), int(space)) for pid, space, _ in here.tolist()]
    return SharedMemoryCommunicator(inner, memory, watch, spin, timeout)


def _create(size: int) -> tuple[str, mmap.mmap | None]:
    """A new file in shared memory and its mapping; an empty name where there is none to be had."""
    found = library()
    if found is None or not _DIRECTORY.is_dir():
        return "", None
    file = f"autoglm-{secrets.token_hex(16)}"
    path = _DIRECTORY / file
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            length = int(found.autoglm_shm_bytes(size, CAPACITY))
            os.posix_fallocate(descriptor, 0, length)  # full memory shows here, not as a fault in the middle of a sum
            return file, mmap.mmap(descriptor, length)
        finally:
            os.close(descriptor)
    except OSError as error:
        log.warning("%s: %s", path, error)
        path.unlink(missing_ok=True)
        return "", None


def _map(file: str) -> mmap.mmap | None:
    if library() is None:
        return None
    try:
        descriptor = os.open(_DIRECTORY / file, os.O_RDWR)
    except OSError:
        return None  # another host
    try:
        return mmap.mmap(descriptor, 0)
    finally:
        os.close(descriptor)


def _namespace() -> int:
    """Number of this process's PID namespace: process ids of another one mean nothing here."""
    return os.stat("/proc/self/ns/pid").st_ino


def _watch(pid: int, namespace: int) -> int:
    """A descriptor that is readable once process ``pid`` has ended; -1 where it cannot be watched, or is this one."""
    if pid == os.getpid() or namespace != _namespace():
        return -1
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1
