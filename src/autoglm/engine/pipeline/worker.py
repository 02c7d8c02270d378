"""A rank of the pipeline that is not rank 0.

Two threads: one takes orders and posts the receive of what the stage before will send, the other computes. So a
micro-batch arrives while an earlier one is computed, and gloo's sender never waits for a receive to be posted.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from queue import Queue

import torch
from torch import Tensor

from autoglm.engine.pipeline.messages import MicroBatch, Order, Times, Worked, decode_order
from autoglm.engine.pipeline.stage import StageRunner, reply_of
from autoglm.engine.ranks.executor import StepExecutor
from autoglm.engine.ranks.messages import Stop, encode
from autoglm.model.stage import Activation, Widths
from autoglm.parallel.channel import Follower
from autoglm.parallel.collectives import Handle
from autoglm.parallel.mesh import Mesh

QUEUED = 64
"""Orders taken ahead of the computation at most."""
_SENDS = 4
"""Messages on their way to the next stage at most."""


@dataclass(slots=True)
class _Arrival:
    order: Order
    message: Handle | None


class StageWorker:
    """Executes micro-batches until rank 0 says stop."""

    def __init__(self, steps: StepExecutor, vision: int, mesh: Mesh) -> None:
        model = steps.model
        self._runner = StageRunner(steps)
        self._stage = self._runner.stage
        self._dtype, self._device = model.dtype, model.device
        self._mesh = mesh
        self._outgoing = Widths.after(model, self._stage, vision)
        self._incoming = Widths.before(model, self._stage, vision)
        self._sends: deque[Handle] = deque()
        self._arrivals: Queue[_Arrival | BaseException] = Queue(QUEUED)

    def follow(self, follower: Follower) -> None:
        """Until told to stop. Raises what a stage raises, and :class:`RuntimeError` if a neighbour is lost."""
        threading.Thread(target=self._take, args=(follower,), name="stage-arrivals", daemon=True).start()
        while True:
            arrival = self._arrivals.get()
            if isinstance(arrival, BaseException):
                raise arrival
            if isinstance(arrival.order, Stop):
                break
            if isinstance(arrival.order, Times):
                intervals = list(self._runner.intervals)
                self._runner.intervals.clear()
                if self._mesh.place.tensor_rank == 0:
                    follower.send(encode(Worked(intervals)))
                continue
            self._compute(arrival.order, arrival.message, follower)
        for send in self._sends:
            send.wait()

    def _take(self, follower: Follower) -> None:
        try:
            while True:
                order = decode_order(follower.receive())
                message = self._expect(order) if isinstance(order, MicroBatch) else None
                self._arrivals.put(_Arrival(order, message))
                if isinstance(order, Stop):
                    return
        except Exception as error:  # whatever it is, the computing thread must not wait for ever
            self._arrivals.put(error)

    def _expect(self, batch: MicroBatch) -> Handle | None:
        if self._stage.is_first:
            return None
        count = self._incoming.numbers(batch.rows, batch.seeing, len(batch.step.images))
        dtype = torch.float32 if batch.step.native else self._dtype
        buffer = torch.empty(count, dtype=dtype, device=self._device)
        return self._mesh.pipeline.irecv(buffer, self._stage.index - 1)

    def _compute(self, batch: MicroBatch, message: Handle | None, follower: Follower) -> None:
        before = None if message is None else message.wait()
        while len(self._sends) >= _SENDS:
            self._sends.popleft().wait()
        with self._runner.working():
            after = self._runner.decode(batch.step, before) if batch.step.native else self._run(batch, before)
            if not self._stage.is_last:
                self._sends.append(self._mesh.pipeline.isend(after, self._stage.index + 1))
            elif self._mesh.place.tensor_rank == 0:
                follower.send(encode(reply_of(batch, after)))

    def _run(self, batch: MicroBatch, message: Tensor | None) -> Tensor:
        """On torch: the message for the next stage, or the last one's logits."""
        before: Activation | None = None
        if message is not None:
            before = self._incoming.unpack(message, batch.rows, batch.seeing, len(batch.step.images))
        after, _ = self._runner.run(batch, before)
        return after.hidden if self._stage.is_last else self._outgoing.pack(after)
