"""Drafts for the sequences of a step, and what is learnt from how they fare."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from autoglm.engine.config import EngineConfig
from autoglm.engine.sequence import Sequence as Choice
from autoglm.engine.speculation.adapt import Rates, StepCosts, worth
from autoglm.engine.speculation.balance import Balance
from autoglm.engine.speculation.guesses import ANSWERS, GRAMMAR, KINDS, Guess, HistoryView, TreeView, View
from autoglm.engine.speculation.tree import TokenTree, TreeForest
from autoglm.prompt import Tokenizer

if TYPE_CHECKING:
    from autoglm.engine.scheduler import Chunk

MAX_SIZE = 65_536
"""Of all salts' answers, in nodes and tokens; a node takes about 200 bytes."""
_MOST_UNREAD = 8
"""Answers of a pause that are read when it ends."""
_LEAST = 0.2
"""Probability below which a first guess is not followed further."""
_PATIENCE, _LONGEST_DOZE = 6, 32
_TRUST_STRIDE, _MOST_TRUST = 0.15, 1.2


class Outlook:
    """What is known about one sequence. ``draft``: the tokens that its next step may verify."""

    __slots__ = ("_asleep", "_doze", "_drafted", "_first", "_seen", "_unpromising", "draft", "trust", "views")

    def __init__(self, sequence: Choice, views: list[View]) -> None:
        self.views = views
        self.trust = 1.0
        self.draft: tuple[int, ...] = ()
        self._seen = sequence.prompt_len
        self._first: list[Guess] = []
        self._drafted: list[Guess] = []
        self._unpromising = self._asleep = 0
        self._doze = 1

    def catch_up(self, tokens: Sequence[int], rates: Rates) -> None:
        """Take in the tokens that came since the last call, and judge by them what was guessed then."""
        new = tokens[self._seen :]
        self._seen = len(tokens)
        if new:
            self._judge(new, rates)
        for view in self.views:
            for token in new:
                view.add(token)

    def guess(self, count: int, rates: Rates) -> list[tuple[float, int]]:
        """(probability that it and all before it are right, token) of up to ``count`` tokens of the best source."""
        self.draft, self._drafted = (), []
        best, source = 0.0, None
        self._first = []
        for view in self.views:
            guess = view.first()
            if guess is not None:
                self._first.append(guess)
                if rates[guess.kind] > best:
                    best, source = rates[guess.kind], view
                    self._drafted = [guess]  # judged, drafted or not: or trust that was lost could not come back
        if source is None or best * self.trust < _LEAST or count < 1:
            self._unpromising += 1
            if self._unpromising % _PATIENCE == 0:
                self._asleep, self._doze = self._doze, min(2 * self._doze, _LONGEST_DOZE)
            return []
        self._unpromising, self._doze = 0, 1
        found: list[tuple[float, int]] = []
        reached = 1.0
        self._drafted = source.follow(count)
        for guess in self._drafted:
            reached *= min(rates[guess.kind] * self.trust, 1.0)
            found.append((reached, guess.token))
        return found

    def dozes(self) -> bool:
        """Whether to leave it alone in this step: nothing has promised well for a while."""
        if self._asleep:
            self._asleep -= 1
            return True
        return False

    def take(self, count: int) -> None:
        """So many of the guessed tokens are drafted."""
        self.draft = tuple(guess.token for guess in self._drafted[:count])

    def _judge(self, new: Sequence[int], rates: Rates) -> None:
        for guess in self._first:
            rates.observe(guess.kind, guess.token == new[0])
        for place, guess in enumerate(self._drafted[: len(new)]):
            hit = guess.token == new[place]
            if place:  # the first is among those above
                rates.observe(guess.kind, hit)
            fulfilled = min(hit / max(rates[guess.kind], 0.05), 2.0)
            self.trust += _TRUST_STRIDE * (fulfilled - self.trust)
            self.trust = min(self.trust, _MOST_TRUST)
            if not hit:
                break


class Speculator:
    """Belongs to the engine's loop. It never changes what is generated: a wrong draft costs the rows it took.

    Args:
        length: tokens of a draft at most. max_rows: of a step that drafts.
        rows_alike: drafts do not take a step beyond so many rows, because more are computed in another order of
            additions and might not give the very same tokens; 0: no such limit.
        examples: token sequences of the answers' grammar. stop_ids: nothing is drafted beyond one.

    Attributes:
        drafted: tokens since start.
    """

    def __init__(
        self,
        length: int,
        max_rows: int,
        rows_alike: int = 0,
        examples: Iterable[Sequence[int]] = (),
        stop_ids: Iterable[int] = (),
    ) -> None:
        self.drafted = 0
        self.costs = StepCosts(max_rows)
        self.balance = Balance()
        self.answers = TreeForest(MAX_SIZE)
        self._unread: deque[tuple[str, list[int]]] = deque(maxlen=_MOST_UNREAD)
        self.rates = Rates(KINDS)
        self._length, self._max_rows, self._rows_alike = length, max_rows, rows_alike
        self._stop_ids = frozenset(stop_ids)
        self._grammar = TokenTree()
        for tokens in examples:
            self._grammar.add(tokens)

    @classmethod
    def of(
        cls, config: EngineConfig, tokenizer: Tokenizer, stop_ids: Iterable[int], rows_alike: int
    ) -> Speculator | None:
        """As the options say; ``None``: off."""
        if not config.speculation:
            return None
        examples = [tokenizer.encode(text) for text in config.draft_examples]
        return cls(config.draft_tokens, config.max_decode_rows, rows_alike, examples, stop_ids)

    def plan(self, sequences: Sequence[Choice], room: int) -> None:
        """Decide what each of these decoding sequences drafts in the next step.

        Args:
            room: rows of the step at most.
        """
        if self.balance.paused:
            for sequence in sequences:
                sequence.outlook = None
            return
        began = time.thread_time()
        while self._unread:
            self.answers.add(*self._unread.popleft())
        self._plan(sequences, room)
        self.balance.thought(time.thread_time() - began)

    def _plan(self, sequences: Sequence[Choice], room: int) -> None:
        base = len(sequences)
        most = self._rows_alike if base <= self._rows_alike else self._max_rows
        room = min(room, most) - base
        offers: list[tuple[float, int]] = []
        outlooks: list[Outlook] = []
        for owner, sequence in enumerate(sequences):
            outlook = self._outlook(sequence)
            outlooks.append(outlook)
            if outlook.dozes():
                continue
            outlook.catch_up(sequence.token_ids, self.rates)
            count = min(self._length, room, sequence.max_tokens - sequence.generated - 1)
            for probability, token in outlook.guess(count, self.rates):
                offers.append((probability, owner))
                if token in self._stop_ids:
                    break
        if not offers:
            return
        chosen = worth(offers, base, self.costs.__getitem__)[: max(room, 0)]
        for owner, outlook in enumerate(outlooks):
            outlook.take(chosen.count(owner))

    def ran(self, chunks: Sequence[Chunk], seconds: float, accepted: int) -> None:
        """A step is done: what it cost, if it was one of decoding alone, and how many drafted tokens were right."""
        rows = drafted = 0
        for chunk in chunks:
            rows += chunk.count
            drafted += len(chunk.draft)
        self.drafted += drafted
        if rows != len(chunks) + drafted:
            return
        if self.balance.paused:
            self.balance.step(seconds, 0.0)
        else:
            self.costs.observe(rows, seconds)
            gained = 0.0
            if drafted:
                alone = self.costs[len(chunks)] / self.costs[rows] * seconds  # what it would have cost without drafts
                gained = alone * (1 + accepted / len(chunks)) - seconds
            self.balance.step(seconds, gained)

    def finished(self, sequence: Choice) -> None:
        """An answer is complete: others of its salt may be like it."""
        self._unread.append((sequence.salt, sequence.token_ids[sequence.prompt_len :]))
        sequence.outlook = None

    def _outlook(self, sequence: Choice) -> Outlook:
        if sequence.outlook is None:
            views: list[View] = [HistoryView(sequence.token_ids[: sequence.prompt_len])]
            tree = self.answers.of(sequence.salt)
            if tree is not None:
                views.append(TreeView(tree, ANSWERS))
            if len(self._grammar):
                views.append(TreeView(self._grammar, GRAMMAR))
            sequence.outlook = Outlook(sequence, views)
        return sequence.outlook
