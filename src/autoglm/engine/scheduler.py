"""Which sequences run in the next step, and how many of their tokens.

Decode tokens come first, then prefill chunks in rank order, under a token budget and an encoder budget. Where KV
memory runs out, the lowest rank is preempted: it gives its blocks back (they stay findable) and computes again later.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from autoglm.cache import BlockTable, KVCache, PartialCopy, VisualCache
from autoglm.engine.budget import Budget, FeatureKey, patches_of
from autoglm.engine.config import EngineConfig
from autoglm.engine.sequence import Sequence, State, by_rank
from autoglm.engine.sharing import Sharing
from autoglm.engine.speculation import Speculator
from autoglm.model.context import ImageFeatures


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens ``[start, start + count)`` of a sequence, the last of which may be no more than drafted."""

    sequence: Sequence
    start: int
    count: int
    draft: tuple[int, ...] = ()

    @property
    def end(self) -> int:
        return self.start + self.count

    @property
    def samples(self) -> bool:
        """Whether the chunk ends at the sequence's end, so that its last row gives the next token."""
        return self.end >= len(self.sequence.token_ids)

    @property
    def sampled(self) -> int:
        """Rows whose logits are wanted: the last one, with a draft the one before each drafted token too."""
        return 1 + len(self.draft) if self.samples else 0

    @property
    def tokens(self) -> list[int]:
        return [*self.sequence.token_ids[self.start : self.end], *self.draft]

    @property
    def known(self) -> Chunk:
        """Without the draft."""
        return Chunk(self.sequence, self.start, self.count - len(self.draft)) if self.draft else self


class Scheduler:
    """Owns the waiting and running lists. Called by the engine's loop only."""

    def __init__(
        self,
        config: EngineConfig,
        kv: KVCache,
        visual: VisualCache[ImageFeatures],
        copy: Callable[[PartialCopy], None],
        sharing: Sharing | None = None,
        speculator: Speculator | None = None,
    ) -> None:
        self._config = config
        self._kv = kv
        self._visual = visual
        self._copy = copy
        self._sharing = sharing
        self._speculator = speculator
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.preemptions = 0

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence by rank."""
        sequence.state = State.WAITING
        insort(self.waiting, sequence, key=lambda s: s.rank)

    def finish(self, sequence: Sequence) -> None:
        """Take a sequence out, whatever it was doing, and give back all it holds."""
        if sequence.state is State.RUNNING:
            self.running.remove(sequence)
            self._give_back(sequence)
        elif sequence.state is State.WAITING:
            self.waiting.remove(sequence)
        self._unshield(sequence)
        if self._sharing is not None:
            self._sharing.drop(sequence)
        sequence.state = State.FINISHED

    def schedule(self) -> list[Chunk]:
        """The next step's chunks; empty only if nothing can run."""
        budget = Budget(self._config.max_batch_tokens, self._config.encoder_patches)
        chunks: dict[Sequence, Chunk] = {}
        ranked = by_rank(self.running)
        if self._speculator is not None:
            decoding = [s for s in ranked if s.remaining == 1 and s.generated]
            self._speculator.plan(decoding, budget.tokens)
        for sequence in ranked:
            if sequence.state is State.RUNNING and sequence.remaining == 1:
                self._continue(sequence, budget, chunks)
        # One order for running prefills and new ones: a long prefill must not keep a better rank waiting.
        waiting = set(self.waiting)
        admitting = True
        for sequence in by_rank([*(s for s in ranked if s.remaining > 1 and s not in waiting), *waiting]):
            if sequence in waiting:
                admitting = admitting and self._admit_next(sequence, budget, chunks)
            elif sequence.state is State.RUNNING:
                self._continue(sequence, budget, chunks)
        self._look_ahead()
        return list(chunks.values())

    def computed(self, chunk: Chunk) -> None:
        """The step ran: index what is full, let go of images that are past."""
        sequence = chunk.sequence
        sequence.computed = chunk.end
        table = sequence.table
        if table is None:
            raise RuntimeError(f"sequence {sequence.request_id} ran without a block table")
        self._kv.commit(table, sequence.identities, sequence.computed)
        if sequence.computed >= sequence.prompt_len and not sequence.prefilled:
            sequence.prefilled = True
            self._kv.publish(table, sequence.identities, sequence.prompt_len)
        for index in list(sequence.features):
            placed = sequence.images[index]
            if not sequence.sights and sequence.computed >= placed.start + placed.image.num_tokens:
                self._unpin(sequence, index)

    def _look_ahead(self) -> None:
        """The first of those that still wait shield what they will hit."""
        for sequence in self.waiting[: self._config.lookahead]:
            if sequence.shield is None:
                sequence.shield = self._kv.shields.of_prompt(
                    sequence.salt, sequence.identities, len(sequence.token_ids) - 1
                )
            else:
                self._kv.shields.renew(sequence.shield)

    def _unshield(self, sequence: Sequence) -> None:
        if sequence.shield is not None:
            self._kv.shields.drop(sequence.shield)
            sequence.shield = None

    def _continue(self, sequence: Sequence, budget: Budget, chunks: dict[Sequence, Chunk]) -> None:
        chunk = self._chunk(sequence, budget)
        if chunk is None or sequence.table is None:
            return
        while not self._kv.grow(sequence.table, chunk.end):
            victim = max(self.running, key=lambda s: s.rank)
            self._preempt(victim, budget, chunks)
            if victim is sequence:
                return
        if sequence.outlook is not None and sequence.remaining == 1:
            chunk = self._drafted(chunk, sequence.table, sequence.outlook.draft)
        chunks[sequence] = chunk
        budget.tokens -= chunk.count

    def _drafted(self, chunk: Chunk, table: BlockTable, draft: tuple[int, ...]) -> Chunk:
        """The chunk with a draft, if there is room for it: nobody gives way to a guess."""
        if not draft or not self._kv.grow(table, chunk.end + len(draft)):
            return chunk
        return Chunk(chunk.sequence, chunk.start, chunk.count + len(draft), draft)

    def _admit_next(self, sequence: Sequence, budget: Budget, chunks: dict[Sequence, Chunk]) -> bool:
        """Whether the sequences behind this one may be admitted too."""
        if budget.tokens <= 0 or len(self.running) >= self._config.max_running:
            return False
        leader = sequence.leader
        if leader is not None and not leader.prefilled and leader.state is not State.FINISHED:
            return True
        if self._sharing is not None and not self._sharing.arrived(sequence):
            return True
        return self._admit(sequence, budget, chunks)

    def _admit(self, sequence: Sequence, budget: Budget, chunks: dict[Sequence, Chunk]) -> bool:
        total = len(sequence.token_ids)
        table, cached, copy = self._kv.open(sequence.salt, sequence.identities, total - 1)
        if copy is not None:
            self._copy(copy)
        sequence.table, sequence.computed = table, cached
        chunk = self._chunk(sequence, budget)
        while chunk is not None and not self._kv.grow(table, chunk.end):
            victim = max(self.running, key=lambda s: s.rank, default=None)
            if victim is None or victim.priority <= sequence.priority:
                chunk = None
            else:
                self._preempt(victim, budget, chunks)
        if chunk is None:
            self._give_back(sequence)
            return False
        self._kv.count(table, cached, total - cached)
        if sequence.cached_tokens < 0:
            sequence.cached_tokens = cached
        self.waiting.remove(sequence)
        self._unshield(sequence)
        self.running.append(sequence)
        sequence.state = State.RUNNING
        chunks[sequence] = chunk
        budget.tokens -= chunk.count
        return True

    def _chunk(self, sequence: Sequence, budget: Budget) -> Chunk | None:
        """As many tokens as the budgets allow; images already encoded are pinned on the way."""
        start = sequence.computed
        end = start + min(sequence.remaining, budget.tokens)
        for first, images in sequence.image_groups(start, end):
            fresh = self._pin_known(sequence, images)
            if fresh and not budget.encode(fresh):
                end = max(start, first)
                break
        return Chunk(sequence, start, end - start) if end > start else None

    def _pin_known(self, sequence: Sequence, images: Iterable[int]) -> dict[FeatureKey, int]:
        """Pin what is encoded already; the rest, with its patches."""
        fresh: dict[FeatureKey, int] = {}
        for index in images:
            if index in sequence.features:
                continue
            image = sequence.images[index].image
            key = (sequence.salt, image.digest)
            features = self._visual.pin(key) if self._visual.recall(key) else None
            if features is None:
                fresh[key] = patches_of(image)
            else:
                sequence.features[index] = features
        return fresh

    def _preempt(self, victim: Sequence, budget: Budget, chunks: dict[Sequence, Chunk]) -> None:
        chunk = chunks.pop(victim, None)
        if chunk is not None:
            budget.tokens += chunk.count
        self.running.remove(victim)
        self._give_back(victim)
        self.preemptions += 1
        self.add(victim)

    def _give_back(self, sequence: Sequence) -> None:
        if sequence.table is not None:
            sequence.leaf = self._kv.release(sequence.table, sequence.identities, sequence.computed)
        sequence.table, sequence.slots, sequence.computed = None, None, 0
        for index in list(sequence.features):
            self._unpin(sequence, index)

    def _unpin(self, sequence: Sequence, index: int) -> None:
        del sequence.features[index]
        self._visual.unpin((sequence.salt, sequence.images[index].image.digest))
