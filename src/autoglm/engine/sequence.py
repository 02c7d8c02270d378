"""One choice of one request, from admission to its last token."""

from __future__ import annotations

import time
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from torch import Tensor

from autoglm.cache import BlockTable, Node, Shield
from autoglm.cache.host import Fetch
from autoglm.engine.output import OutputStream
from autoglm.engine.sampling import SamplerState
from autoglm.messages import SamplingParams
from autoglm.model.context import ImageFeatures
from autoglm.prompt import PlacedImage

if TYPE_CHECKING:
    from autoglm.engine.decode import RowState
    from autoglm.engine.speculation.speculator import Outlook


class State(Enum):
    """Life cycle: WAITING <-> RUNNING (preemption goes back), both -> FINISHED."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Sight:
    """Tokens ``[start, end)`` see ``images`` by cross-attention; ``end`` ``None``: to the end, whatever is added."""

    start: int
    end: int | None
    images: tuple[int, ...]
    ordinal: int

    def overlap(self, start: int, end: int) -> tuple[int, int]:
        """The part of ``[start, end)`` it covers (empty if the first is not below the second)."""
        return max(self.start, start), end if self.end is None else min(self.end, end)


@dataclass(slots=True, eq=False)
class Sequence:
    """Mutable state of one choice.

    Attributes:
        token_ids: prompt, then generated tokens. identities: the same length; see :mod:`autoglm.cache.identity`.
        positions: int64 ``[3, prompt]``; a later token ``i`` has position ``i + delta``.
        computed: tokens whose KV is in ``table``.
        features: pinned visual features by image index.
        session: what its KV should be kept for, and how long (see :class:`~autoglm.cache.SessionHints`).
        shield: what it holds back from eviction while it waits. fetch: what it waits for; parents of the fetched
            blocks and keys of the fetched features, by name. leaf: its last whole block, once it gave its table back.
        outlook: what is guessed of its next tokens. drafted, accepted: guessed tokens that were verified, were right.
        leader: the first choice of the same request: the others wait until it has the prompt's KV to share.
    """

    request_id: str
    index: int
    order: int
    priority: int
    salt: str
    sampling: SamplingParams
    max_tokens: int
    token_ids: list[int]
    prompt_len: int
    identities: list[int]
    images: tuple[PlacedImage, ...]
    sights: tuple[Sight, ...]
    positions: Tensor
    delta: int
    sampler: SamplerState
    output: OutputStream
    leader: Sequence | None = None
    session: str = ""
    keep_seconds: float = 0.0
    shield: Shield | None = None
    leaf: Node | None = None
    fetch: Fetch | None = None
    fetch_parents: dict[bytes, bytes] = field(default_factory=dict)
    fetch_features: dict[bytes, tuple[str, bytes]] = field(default_factory=dict)
    state: State = State.WAITING
    table: BlockTable | None = None
    computed: int = 0
    prefilled: bool = False
    cached_tokens: int = -1
    features: dict[int, ImageFeatures] = field(default_factory=dict)
    slots: Tensor | None = None
    run_start: int | None = None
    row_state: RowState | None = None
    outlook: Outlook | None = None
    drafted: int = 0
    accepted: int = 0
    arrived: float = field(default_factory=time.perf_counter)
    first_scheduled: float = 0.0
    first_token: float = 0.0

    @property
    def rank(self) -> tuple[int, int]:
        """Scheduling order: lower runs first and is preempted last."""
        return self.priority, self.order

    @property
    def remaining(self) -> int:
        """Tokens without KV; 1 while decoding."""
        return len(self.token_ids) - self.computed

    @property
    def generated(self) -> int:
        return len(self.token_ids) - self.prompt_len

    @property
    def image_tokens(self) -> int:
        return sum(p.image.num_tokens for p in self.images)

    def image_groups(self, start: int, end: int) -> list[tuple[int, tuple[int, ...]]]:
        """What :meth:`needed_images` names, as (first token that needs them, images needed at once), in order."""
        if self.sights:
            seen = [s for s in self.sights if (o := s.overlap(start, end))[0] < o[1]]
            return [(s.start, s.images) for s in sorted(seen, key=lambda s: s.start)]
        return [(self.images[i].start, (i,)) for i in self.needed_images(start, end)]

    def needed_images(self, start: int, end: int) -> list[int]:
        """Indices of the images that tokens ``[start, end)`` stand for or see."""
        if self.sights:
            seen = {i for s in self.sights if (o := s.overlap(start, end))[0] < o[1] for i in s.images}
            return sorted(seen)
        return [i for i, p in enumerate(self.images) if p.start < end and start < p.start + p.image.num_tokens]

    def append(self, token: int, identity: int) -> None:
        """A generated token."""
        self.token_ids.append(token)
        self.identities.append(identity)

    def sight_at(self, position: int) -> int:
        """Ordinal of the image set the token at ``position`` sees; 0: none."""
        for sight in self.sights:
            if sight.start <= position and (sight.end is None or position < sight.end):
                return sight.ordinal
        return 0


def by_rank(sequences: Seq[Sequence]) -> list[Sequence]:
    """In scheduling order."""
    return sorted(sequences, key=lambda s: s.rank)
