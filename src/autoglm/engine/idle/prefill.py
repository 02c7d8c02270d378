"""Idle-time prefill: while the phone acts, the known beginning of its next prompt is computed.

When an answer ends, the next request is known up to the next screen: the client drops the old image and writes the
answer back by a rule that the dialogue's last two requests have shown (:mod:`~autoglm.engine.idle.rule`). Nothing is
promised to that guess: it is computed only while there is no real work, in steps of bounded time; what it leaves in the
prefix tree is found by tokens, image for image, if the guess was right, and is the first to be evicted if not.
"""

from __future__ import annotations

import logging
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from autoglm.cache import KVCache, PartialCopy, VisualCache
from autoglm.engine.idle.dialogues import Dialogue, Dialogues
from autoglm.engine.idle.job import Job
from autoglm.engine.idle.prediction import Prediction, predict
from autoglm.engine.scheduler import Chunk
from autoglm.engine.sequence import Sequence
from autoglm.errors import AutoGLMError
from autoglm.model.context import ImageFeatures
from autoglm.prompt import PromptBuilder

log = logging.getLogger(__name__)
_MOST_WAITING = 64
_POOL_SHARE = 8
_FIRST_TOKENS = 16


@dataclass(slots=True)
class IdleCounters:
    """Since start. A prediction is hit if the request began with all of it; saved tokens are those it then reused."""

    predictions: int = 0
    hits: int = 0
    computed_tokens: int = 0
    saved_tokens: int = 0
    interruptions: int = 0


class IdlePrefill:
    """Predicts and computes. Not thread-safe: the engine's loop owns it.

    Args:
        run: runs a step of chunks, to its end.
        outline: a built prompt as a sequence that no client waits for.
        step_seconds: how long a step may take, and so how long real work can be held up; most_tokens: of a step.
    """

    def __init__(
        self,
        kv: KVCache,
        visual: VisualCache[ImageFeatures],
        dialogues: Dialogues,
        prompts: PromptBuilder,
        *,
        run: Callable[[list[Chunk]], None],
        copy: Callable[[PartialCopy], None],
        outline: Callable[[Prediction, str], Sequence],
        step_seconds: float,
        most_tokens: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._kv = kv
        self._visual = visual
        self._dialogues = dialogues
        self._prompts = prompts
        self._run = run
        self._copy = copy
        self._outline = outline
        self._pace = Pace(step_seconds, most_tokens)
        self._clock = clock
        self._most_blocks = max(1, kv.num_blocks // _POOL_SHARE)
        self._waiting: OrderedDict[Dialogue, None] = OrderedDict()
        self._job: Job | None = None
        self.counters = IdleCounters()

    @property
    def open_tables(self) -> int:
        """Block tables it holds."""
        return int(self._job is not None and self._job.is_open)

    @property
    def pins(self) -> int:
        """Visual features it holds."""
        return len(self._job.sequence.features) if self._job is not None else 0

    def expect(self, dialogue: Dialogue) -> None:
        """An answer ended: its dialogue's next request may come."""
        if dialogue.rule is None:
            return
        self._waiting[dialogue] = None
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.popitem(last=False)

    def give_up(self, dialogue: Dialogue) -> None:
        """The next request is here, or never comes."""
        self._waiting.pop(dialogue, None)
        if self._job is not None and self._job.dialogue is dialogue:
            self._leave()

    def pause(self) -> None:
        """Real work is there: let go of everything."""
        if self._job is not None and self._job.is_open:
            self.counters.interruptions += 1
            self._record(self._job)
            self._job.close()

    def arrived(self, dialogue: Dialogue, sequence: Sequence) -> None:
        """A request was answered: count what the guess at it was good for."""
        expected, known = dialogue.before, dialogue.before_known
        if not expected:
            return
        common = 0
        for a, b in zip(expected, sequence.identities, strict=False):
            if a != b:
                break
            common += 1
        self.counters.hits += common == len(expected)
        self.counters.saved_tokens += max(0, min(common, sequence.cached_tokens) - known)

    def step(self) -> bool:
        """Compute a little; ``False`` if there is nothing to do."""
        while True:
            job = self._job or self._next()
            if job is None:
                return False
            chunk = None
            if job.is_open or job.open():
                chunk = job.next_chunk(self._pace.tokens)
            if chunk is not None:
                break
            self._leave()
        started = self._clock()
        self._kv.flush()
        self._run([chunk])
        job.computed(chunk)
        self._pace.took(chunk.count, self._clock() - started)
        self.counters.computed_tokens += chunk.count
        if job.end == job.goal:
            self._leave()
        return True

    def _next(self) -> Job | None:
        while self._waiting:
            dialogue, _ = self._waiting.popitem(last=False)
            if not self._dialogues.resting(dialogue):
                continue
            try:
                prediction = predict(self._prompts, dialogue)
                if prediction is None or not prediction.known:
                    continue
                sequence = self._outline(prediction, dialogue.salt)
            except AutoGLMError as error:  # what the rule makes is no request of this model, or too long
                log.debug("no prediction: %s", error)
                continue
            self._job = Job(self._kv, self._visual, self._copy, sequence, prediction.known, dialogue, self._most_blocks)
            return self._job
        return None

    def _leave(self) -> None:
        """Done with the job, as far as it went."""
        job, self._job = self._job, None
        if job is not None:
            self._record(job)
            job.close()

    def _record(self, job: Job) -> None:
        """Remember what the dialogue's next request is expected to begin with, if anything was computed."""
        if job.end > job.known >= 0:
            self.counters.predictions += not job.dialogue.ahead
            job.dialogue.ahead = array("q", job.sequence.identities[: job.end])
            job.dialogue.ahead_known = job.known


class Pace:
    """How many tokens fit into a step of so many seconds, from the steps before."""

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most
        self.tokens = min(_FIRST_TOKENS, most)

    def took(self, tokens: int, seconds: float) -> None:
        """A step of ``tokens`` took ``seconds``; a short one that was quick says little."""
        if tokens < self.tokens and seconds < self._seconds:
            return
        fitting = int(tokens * self._seconds / max(seconds, 1e-6))
        self.tokens = max(1, min(fitting, 2 * self.tokens, self._most))
