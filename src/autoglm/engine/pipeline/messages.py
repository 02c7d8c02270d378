"""What rank 0 and the stages say to each other beyond a step."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from autoglm.engine.ranks.messages import NewImage, Step, Stop


class Wish(Struct, frozen=True, array_like=True):
    """What is wanted of one row's logits: the best token after taking ``amounts`` off ``ids``, or all of them."""

    whole: bool
    ids: list[int] = []
    amounts: list[float] = []


class MicroBatch(Struct, frozen=True, tag=True):
    """A step in flight. Every rank gets them in one order: that alone makes KV and features safe.

    Attributes:
        wishes: of the step's output rows, in order.
    """

    number: int
    step: Step
    wishes: list[Wish]

    @property
    def rows(self) -> int:
        """Rows of the step."""
        return sum(part.query_len for part in self.step.parts)

    @property
    def seeing(self) -> int:
        """Rows that see an image by cross-attention."""
        return sum(span.row_end - span.row_start for span in self.step.spans)


class Times(Struct, frozen=True, tag=True):
    """Answer with when the stage computed since the last time."""


class Worked(Struct, frozen=True, tag=True):
    """A stage's answer to :class:`Times`: (start, end) of each micro-batch, in order."""

    intervals: list[tuple[float, float]]


class Reply(Struct, frozen=True, tag=True):
    """The last stage's answer.

    Attributes:
        tokens: for each wish; ``-1 - i`` stands for row ``i`` of ``logits``, float32 ``[whole rows, vocab]``.
    """

    number: int
    tokens: list[int]
    logits: bytes


Order = MicroBatch | Times | Stop
decode_order = msgspec.msgpack.Decoder(Order).decode
decode_answer = msgspec.msgpack.Decoder(Reply | Worked).decode


def without_pixels(batch: MicroBatch) -> MicroBatch:
    """For stages that do not encode."""
    if not batch.step.images:
        return batch
    bare = [NewImage(image.number, image.grid, image.shape, b"") for image in batch.step.images]
    return msgspec.structs.replace(batch, step=msgspec.structs.replace(batch.step, images=bare))
