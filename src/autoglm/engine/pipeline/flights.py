"""Which micro-batches are in flight: planning a step's chunks, launching, landing.

A micro-batch counts as computed when it is launched: every stage takes them in one order, so whatever is launched
later finds its KV (and copies, and images) in place. Only the sampled token is missing until it lands; a sequence whose
token is under way has nothing left to compute, so the scheduler passes it by.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Protocol

from autoglm.engine.sampling import Choice
from autoglm.engine.scheduler import Chunk, Scheduler
from autoglm.engine.sequence import Sequence, State
from autoglm.parallel.pipeline.microbatch import RowCost, Work, parts_for, split


class Answer(Protocol):
    """What came back for one micro-batch."""

    def choice(self, index: int, sequence: Sequence) -> Choice:
        """The token of the ``index``-th row that was sampled; asked at most once each."""


class Stages(Protocol):
    """Runs micro-batches on all stages, in order."""

    def launch(self, chunks: Seq[Chunk], sampling: Seq[Sequence]) -> None:
        """Begin one; returns when this rank's own stage is done with it."""

    def ready(self) -> bool:
        """Whether :meth:`land` would not wait."""

    def land(self) -> Answer:
        """The oldest that has not landed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How a step is split.

    Attributes:
        in_flight: while so many fly, no step is scheduled; the running sequences are split over them evenly.
        micro_batches: of one step's prefill. smallest: tokens of prefill in one.
        cost: predicted time of tokens, for micro-batches of equal time.
    """

    in_flight: int
    micro_batches: int
    smallest: int
    cost: RowCost


@dataclass(frozen=True, slots=True)
class _Flight:
    number: int
    sampling: list[Sequence]


class Flights:
    """All that is planned and in flight. At most ``in_flight - 1`` and one step's micro-batches fly at once."""

    def __init__(self, stages: Stages, limits: Limits) -> None:
        self.launched = 0
        self._stages = stages
        self._limits = limits
        self._planned: deque[list[Chunk]] = deque()
        self._flying: deque[_Flight] = deque()
        self._awaited: dict[Sequence, int] = {}

    def __len__(self) -> int:
        return len(self._flying)

    def advance(self, scheduler: Scheduler) -> list[tuple[Sequence, Choice]]:
        """Launch one micro-batch if there is one to launch, and take in what has landed.

        Waits for the oldest only where there was nothing to launch. Returns the new tokens.
        """
        if not self._planned and len(self._flying) < self._limits.in_flight:
            self._planned.extend(self._plan(scheduler.schedule(), scheduler.running))
        launched = bool(self._planned)
        if launched:
            self._launch(self._planned.popleft(), scheduler)
        found: list[tuple[Sequence, Choice]] = []
        while self._flying and (not launched or self._stages.ready()):
            found += self._land()
            launched = True  # waited once: from now on only what is there
        return found

    def drain(self) -> None:
        """Wait for all that flies; its tokens are dropped."""
        self._planned.clear()
        while self._flying:
            self._stages.land()
            self._flying.popleft()
        self._awaited.clear()

    def _plan(self, chunks: Seq[Chunk], running: Seq[Sequence]) -> list[list[Chunk]]:
        limits = self._limits
        decoding = sum(1 for sequence in running if sequence.remaining <= 1)
        share = max(1, -(-decoding // limits.in_flight))
        if all(chunk.count == 1 for chunk in chunks):
            # A micro-batch reads all weights, so one more with few rows costs what a full one does. What is left over
            # joins those that land next; by then all others are full, so nobody is left over for long.
            chunks = chunks[: share * (limits.in_flight - len(self._flying))]
        works = [Work(chunk.start, chunk.count) for chunk in chunks]
        parts = parts_for(works, share, limits.micro_batches, limits.smallest)
        batches = split(works, parts, limits.cost) if works else []
        return [[Chunk(chunks[p.index].sequence, p.start, p.count) for p in batch] for batch in batches]

    def _launch(self, planned: list[Chunk], scheduler: Scheduler) -> None:
        chunks = [chunk for chunk in planned if chunk.sequence.state is State.RUNNING]  # others were cancelled since
        if not chunks:
            return
        now = time.perf_counter()
        for chunk in chunks:
            chunk.sequence.first_scheduled = chunk.sequence.first_scheduled or now
        sampling = [chunk.sequence for chunk in chunks if chunk.samples]
        self._stages.launch(chunks, sampling)
        self.launched += 1
        for chunk in chunks:
            scheduler.computed(chunk)
        self._flying.append(_Flight(self.launched, sampling))
        # One that was preempted in flight may compute its last token again; then only the later answer counts.
        self._awaited.update(dict.fromkeys(sampling, self.launched))

    def _land(self) -> list[tuple[Sequence, Choice]]:
        answer, flight = self._stages.land(), self._flying.popleft()
        found = []
        for index, sequence in enumerate(flight.sampling):
            if self._awaited.get(sequence) != flight.number:
                continue
            del self._awaited[sequence]
            if sequence.state is not State.FINISHED:
                found.append((sequence, answer.choice(index, sequence)))
        return found
