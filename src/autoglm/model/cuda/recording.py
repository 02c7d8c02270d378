"""Steps recorded once and replayed: a CUDA graph where there is CUDA, else the step itself.

A step can be recorded if it reads only memory that stays in its place, and running it twice does no more than once.
What is recorded keeps its memory, so :class:`Recordings` counts bytes, and refuses, or lets go of the oldest.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch

log = logging.getLogger(__name__)
K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class RefusedError(Exception):
    """A step that cannot be recorded, and why."""


@dataclass(frozen=True, slots=True)
class Recording(Generic[T]):
    """``replay()`` runs the step on what its inputs hold now; its result is valid until the next replay.

    Attributes:
        nbytes: device memory it keeps.
        step: what was recorded. A graph reads its inputs where they lay: all that the step holds lives as long.
    """

    replay: Callable[[], T]
    nbytes: int
    step: Callable[[], T]


class Recorder(Protocol):
    """Makes recordings."""

    def record(self, step: Callable[[], T]) -> Recording[T]:
        """Runs the step, too. Raises :class:`RefusedError`."""
        ...


class Eager:
    """Records nothing: a replay is the step again. For devices without graphs, and to tell a graph's faults apart."""

    def record(self, step: Callable[[], T]) -> Recording[T]:
        step()
        return Recording(step, 0, step)


class CudaGraphs:
    """CUDA graphs of one device; they share a memory pool, since their results are not needed at once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: object | None = None

    def record(self, step: Callable[[], T]) -> Recording[T]:
        device = self._device
        try:
            side, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)  # type: ignore[no-untyped-call]
            side.wait_stream(current)
            with torch.cuda.stream(side):
                for _ in range(2):  # kernels are compiled and libraries begun outside of the graph
                    step()
            current.wait_stream(side)
            torch.cuda.synchronize(device)
            torch.cuda.empty_cache()
            before = torch.cuda.memory_reserved(device)
            graph = torch.cuda.CUDAGraph()
            # Other threads may go on with their own CUDA work meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):  # type: ignore[arg-type, unused-ignore]
                result = step()
            self._pool = self._pool or graph.pool()  # type: ignore[no-untyped-call, unused-ignore]
            nbytes = max(0, torch.cuda.memory_reserved(device) - before)
        except (RuntimeError, NotImplementedError) as error:
            raise RefusedError(f"{type(error).__name__}: {str(error).splitlines()[0]}") from error

        def replay() -> T:
            graph.replay()  # type: ignore[no-untyped-call, unused-ignore]
            return result

        return Recording(replay, nbytes, step)


class Recordings(Generic[K, T]):
    """Recordings by key, bounded in number and bytes. A key that was refused stays so.

    Args:
        evict: the one not used for longest makes room; else what comes too late is refused.
    """

    def __init__(self, what: str, recorder: Recorder, most: int, most_bytes: int, *, evict: bool) -> None:
        self._what, self._recorder = what, recorder
        self._most, self._most_bytes, self._evict = most, most_bytes, evict
        self._held: OrderedDict[K, Recording[T]] = OrderedDict()
        self.refused: dict[K, str] = {}

    @property
    def nbytes(self) -> int:
        """Device memory that all of them keep."""
        return sum(recording.nbytes for recording in self._held.values())

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: K) -> bool:
        return key in self._held

    def held(self, key: K) -> Recording[T]:
        """A recording that is there."""
        self._held.move_to_end(key)
        return self._held[key]

    def get(self, key: K, step: Callable[[], T]) -> Recording[T] | None:
        """The recording of ``key``, made of ``step`` if there is none yet; ``None``: refused, the reason was logged."""
        if key in self:
            return self.held(key)
        if key in self.refused:
            return None
        if not self._evict and (len(self) >= self._most or self.nbytes >= self._most_bytes):
            self._refuse(key, f"{len(self)} are kept already, of {self.nbytes} bytes")
            return None
        if self._evict:
            self._make_room(self._most - 1, self._most_bytes)
        try:
            made = self._recorder.record(step)
        except RefusedError as error:
            self._refuse(key, str(error))
            return None
        spare = 0 if self._evict else self.nbytes
        if made.nbytes + spare > self._most_bytes:
            self._refuse(key, f"it takes {made.nbytes} bytes, {self._most_bytes - spare} are left")
            return None
        if self._evict:
            self._make_room(self._most - 1, self._most_bytes - made.nbytes)
        self._held[key] = made
        log.info("%s %s is recorded (%d bytes)", self._what, key, made.nbytes)
        return made

    def _make_room(self, most: int, most_bytes: int) -> None:
        while self._held and (len(self) > most or self.nbytes > most_bytes):
            self._held.popitem(last=False)

    def _refuse(self, key: K, reason: str) -> Recording[T] | None:
        self.refused[key] = reason
        log.warning("%s %s is not recorded: %s", self._what, key, reason)
        return None
