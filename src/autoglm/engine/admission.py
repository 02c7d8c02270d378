"""From a :class:`Submit` to sequences: prompt building in a worker pool, length and budget checks."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from autoglm.cache import ImageOrdinals, sequence_identities, sighted_identity
from autoglm.engine.budget import FeatureKey
from autoglm.engine.config import EngineConfig
from autoglm.engine.idle.shadow import Shadow, shadow_of
from autoglm.engine.output import OutputStream
from autoglm.engine.sampling import SamplerState
from autoglm.engine.sequence import Sequence, Sight
from autoglm.errors import InvalidInputError, OverloadedError, PromptTooLongError
from autoglm.messages import SamplingParams, Submit
from autoglm.model.registry import Model
from autoglm.prompt import ProcessedImage, Prompt, PromptBuilder


@dataclass(frozen=True, slots=True)
class Job:
    """A request whose prompt is ready, or why it is not. ``shadow``: what is remembered of its messages."""

    id: str
    sampling: SamplingParams
    n: int
    priority: int
    salt: str
    prompt: Prompt | None
    error: Exception | None = None
    session: str = ""
    keep_seconds: float = 0.0
    shadow: Shadow | None = None


@dataclass(slots=True, eq=False)
class Build:
    """A prompt under way; told from an earlier one with the same (cancelled) id by being another object.

    ``over``: its job was taken, or its request cancelled.
    """

    command: Submit
    over: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """An image of a prompt that is still under way."""

    build: Build
    image: ProcessedImage

    @property
    def key(self) -> FeatureKey:
        return self.build.command.cache_salt, self.image.digest


class Admission:
    """Builds prompts off the engine's loop and turns them into sequences on it.

    ``submit`` may be called from any thread; everything else belongs to the engine's loop.

    Attributes:
        decoded: with ``early_images``, images in the order in which their pixels came, while their prompts are still
            being built. Those of finished and cancelled ones go with the next step.
        wake: called on a worker's thread when something has become ready.
    """

    def __init__(
        self,
        config: EngineConfig,
        model: Model,
        prompts: PromptBuilder,
        token_capacity: int,
        ordinals: ImageOrdinals,
        *,
        early_images: bool = False,
    ) -> None:
        self._config = config
        self._model = model
        self._prompts = prompts
        self.context_length = min(token_capacity, config.context_length or model.context_length, model.context_length)
        self._ordinals = ordinals
        self._orders = itertools.count()
        self._workers = ThreadPoolExecutor(config.prompt_workers, "prompt")
        self._building: dict[str, tuple[Build, Future[None]]] = {}
        self._ready: deque[tuple[Build, Job]] = deque()
        self._early_images = early_images
        self.decoded: deque[Decoded] = deque()
        self.wake: Callable[[], None] = lambda: None

    @property
    def pending(self) -> int:
        """Choices whose prompt is being built or not yet taken."""
        return sum(build.command.n for build, _ in self._building.values())

    @property
    def has_ready(self) -> bool:
        return bool(self._ready)

    def submit(self, command: Submit, waiting: int) -> None:
        """Start building; raises if a field is out of range or the queue (``waiting`` + pending) is full."""
        self.check(command.sampling, command.n)
        queued = waiting + self.pending
        if queued + command.n > self._config.max_waiting:
            raise OverloadedError(
                f"{queued} choices are waiting; the limit is {self._config.max_waiting}",
                field="n" if command.n > 1 else None,
                limit=self._config.max_waiting,
                value=queued,
            )
        if command.id in self._building:
            raise InvalidInputError(f"request id {command.id} is in use", field="id", value=command.id)
        build = Build(command)
        self._building[command.id] = build, self._workers.submit(partial(self._build, build))

    def check(self, sampling: SamplingParams, n: int) -> None:
        """Ranges that need the model."""
        sampling.validate()
        if not 1 <= n <= self._config.max_waiting:
            raise InvalidInputError(f"n must be between 1 and {self._config.max_waiting}", field="n", value=n)
        vocab = self._model.vocab_size
        for field, ids in (("stop_token_ids", sampling.stop_token_ids), ("logit_bias", tuple(sampling.logit_bias))):
            for token in ids:
                if not 0 <= token < vocab:
                    raise InvalidInputError(
                        f"{field}: {token} is not a token id below {vocab}", field=field, limit=vocab, value=token
                    )
        if sampling.min_tokens and len({*sampling.stop_token_ids, *self._model.stop_token_ids}) >= vocab:
            raise InvalidInputError(
                "stop_token_ids: with min_tokens, at least one token must not be a stop token",
                field="stop_token_ids",
                limit=vocab - 1,
                value=len(sampling.stop_token_ids),
            )

    def cancel(self, request_id: str) -> bool:
        """Forget a request whose prompt is not taken yet."""
        build, future = self._building.pop(request_id, (None, None))
        if build is not None and future is not None:
            build.over = True
            future.cancel()  # not begun: its worker is free for others
        return build is not None

    def take(self) -> list[Job]:
        """Jobs that became ready; cancelled ones are dropped."""
        jobs: list[Job] = []
        while self._ready:
            build, job = self._ready.popleft()
            current, _ = self._building.get(job.id, (None, None))
            if current is build:
                del self._building[job.id]
                build.over = True
                jobs.append(job)
        return jobs

    def sequences(self, job: Job) -> list[Sequence]:
        """One per choice. Raises :class:`PromptTooLongError`; an over-long ``max_tokens`` is clamped."""
        prompt = job.prompt
        if prompt is None:
            raise job.error or InvalidInputError("empty request", field="messages")
        length = len(prompt.token_ids)
        room = self.context_length - length
        if room < 1:
            raise PromptTooLongError(
                f"the prompt has {length} tokens; the context is {self.context_length}, one of which is for the answer",
                field="messages",
                limit=self.context_length - 1,
                value=length,
            )
        max_tokens = min(job.sampling.max_tokens or room, room)
        positions, delta = self._model.rope_positions(length, [(p.start, p.image.grid) for p in prompt.images])
        sights, identities = self._identify(prompt)
        found: list[Sequence] = []
        for index in range(job.n):
            found.append(
                Sequence(
                    request_id=job.id,
                    index=index,
                    order=next(self._orders),
                    priority=job.priority,
                    salt=job.salt,
                    sampling=job.sampling,
                    max_tokens=max_tokens,
                    token_ids=list(prompt.token_ids),
                    prompt_len=length,
                    identities=list(identities),
                    images=prompt.images,
                    sights=sights,
                    positions=positions,
                    delta=delta,
                    sampler=SamplerState(
                        job.sampling,
                        index,
                        prompt.token_ids,
                        self._model.vocab_size,
                        self._model.stop_token_ids,
                        self._model.device,
                    ),
                    output=OutputStream(self._prompts.tokenizer, job.sampling, self._model.stop_token_ids, max_tokens),
                    leader=found[0] if found else None,
                    session=job.session,
                    keep_seconds=job.keep_seconds,
                )
            )
        return found

    def close(self) -> None:
        """Stop the workers; what they hold is dropped."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _identify(self, prompt: Prompt) -> tuple[tuple[Sight, ...], list[int]]:
        placed = prompt.images
        if self._model.image_in_sequence:
            images = [(p.start, p.image.num_tokens, p.image.digest) for p in placed]
            return (), sequence_identities(prompt.token_ids, images, self._ordinals)
        sights = tuple(
            Sight(start, end, seen, self._ordinals.of(tuple(placed[i].image.digest for i in seen)))
            for start, end, seen in self._model.visible_spans(prompt.token_ids, [p.start for p in placed])
        )
        identities = list(prompt.token_ids)
        for sight in sights:
            first, last = sight.overlap(0, len(identities))
            identities[first:last] = [sighted_identity(t, sight.ordinal) for t in identities[first:last]]
        return sights, identities

    def _build(self, build: Build) -> None:
        command = build.command
        prompt, error, shadow = None, None, None
        early = partial(self._hand_on, build) if self._early_images else None
        try:
            prompt = self._prompts.build(command.messages, pool=self._workers, on_image=early)
            if command.n == 1 and self._config.knows_dialogues:
                shadow = shadow_of(command.messages, prompt)
        except Exception as caught:  # whatever went wrong belongs to this request, and reaches its client
            error = caught
        job = Job(
            command.id,
            command.sampling,
            command.n,
            command.priority,
            command.cache_salt,
            prompt,
            error,
            command.session,
            command.keep_seconds,
            shadow,
        )
        self._ready.append((build, job))
        self.wake()

    def _hand_on(self, build: Build, image: ProcessedImage) -> None:
        self.decoded.append(Decoded(build, image))
        self.wake()
