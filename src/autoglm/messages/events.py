"""Engine to server."""

from __future__ import annotations

from msgspec import Struct

from autoglm.errors import AutoGLMError


class ErrorInfo(Struct, frozen=True, kw_only=True):
    """An :class:`AutoGLMError` on the wire."""

    kind: str
    message: str
    field: str | None = None
    limit: str | int | float | None = None
    value: str | int | float | None = None
    retryable: bool = False
    retry_after: float | None = None

    @classmethod
    def of(cls, error: AutoGLMError) -> ErrorInfo:
        return cls(
            kind=error.kind,
            message=error.message,
            field=error.field,
            limit=error.limit,
            value=error.value,
            retryable=error.retryable,
            retry_after=getattr(error, "retry_after", None),
        )


class ModelInfo(Struct, frozen=True, kw_only=True):
    """What the engine has loaded."""

    layout: str
    parameters: int
    dtype: str
    device: str
    context_length: int
    vocab_size: int
    stop_token_ids: tuple[int, ...]


class Progress(Struct, frozen=True, kw_only=True, tag="progress"):
    """Loading goes on: ``done`` of ``total`` bytes of ``stage``."""

    stage: str
    done: int
    total: int


class Ready(Struct, frozen=True, tag="ready"):
    """The model is loaded; commands are taken from now on."""

    model: ModelInfo


class Accepted(Struct, frozen=True, kw_only=True, tag="accepted"):
    """The prompt was built and fits. ``max_tokens`` is the value after clamping to the context."""

    id: str
    prompt_tokens: int
    image_tokens: int
    max_tokens: int


class TopLogprob(Struct, frozen=True):
    """One alternative: its token as text and bytes."""

    token: str
    raw: bytes
    logprob: float


class TokenLogprob(Struct, frozen=True):
    """The chosen token with its alternatives, best first."""

    token: str
    raw: bytes
    logprob: float
    top: list[TopLogprob]


class Usage(Struct, frozen=True, kw_only=True):
    """Token counts of one choice.

    ``cached_tokens``: prompt tokens whose KV was reused, not computed. ``drafted_tokens`` were guessed and verified,
    ``accepted_tokens`` of them were right: so many steps were saved.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    image_tokens: int
    drafted_tokens: int = 0
    accepted_tokens: int = 0


class Finish(Struct, frozen=True, kw_only=True):
    """Why a choice ended: ``stop`` (id, string or end of turn) or ``length``; ``matched`` names the stop."""

    reason: str
    usage: Usage
    matched: str | int | None = None
    queue_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0


class Output(Struct, frozen=True, kw_only=True, tag="output"):
    """New text of choice ``index``; empty while a character is incomplete or a stop string may follow."""

    id: str
    index: int
    text: str
    token_ids: list[int]
    logprobs: list[TokenLogprob] | None = None
    finish: Finish | None = None


class Failed(Struct, frozen=True, tag="failed"):
    """The whole request ended with an error; no further event for ``id``."""

    id: str
    error: ErrorInfo


class CacheStats(Struct, frozen=True, kw_only=True):
    """Counters of one cache since start.

    ``loads`` took ``load_seconds`` in all; ``causes`` says why entries were evicted. ``hit_age_seconds``: sum over hits
    of the time since what was hit had been made; ``evicted_age_seconds``: the same over evictions. Redis knows neither.
    """

    name: str
    hits: int
    misses: int
    evictions: int
    entries: int
    bytes: int
    capacity_bytes: int
    loads: int = 0
    load_seconds: float = 0.0
    causes: dict[str, int] = {}
    hit_age_seconds: float = 0.0
    evicted_age_seconds: float = 0.0


class Stats(Struct, frozen=True, kw_only=True):
    """A snapshot of the engine. Times in seconds, sizes in bytes, totals since start.

    ``decode_steps`` counts each sequence of a step; ``tokens_per_step`` is 1 without drafts.
    ``early_*``: images encoded before their prompts were there; those that were read, and were evicted unread.
    ``idle_*``: what was computed ahead of requests; ``dropped_*``: images that dialogues no longer show, and KV blocks
    that only they needed. ``pipeline_bubble``: idle share of the stages' time while something was in flight, measured
    over the latest passes; ``pipeline_bubble_formula``: (P-1)/(M+P-1) for P stages and their M micro-batches a pass.
    """

    waiting: int
    running: int
    steps: int
    preemptions: int
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    kv_blocks_total: int
    kv_blocks_free: int
    kv_block_tokens: int
    resident_bytes: int
    early_encodes: int = 0
    early_used: int = 0
    early_wasted: int = 0
    idle_predictions: int = 0
    idle_hits: int = 0
    idle_computed_tokens: int = 0
    idle_saved_tokens: int = 0
    idle_interruptions: int = 0
    dropped_images: int = 0
    dropped_blocks: int = 0
    caches: list[CacheStats]
    decode_steps: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    acceptance_rate: float = 0.0
    tokens_per_step: float = 0.0
    pipeline_stages: int = 1
    pipeline_micro_batches: float = 0.0
    pipeline_bubble: float = 0.0
    pipeline_bubble_formula: float = 0.0


class StatsReply(Struct, frozen=True, tag="stats"):
    """Answer to :class:`GetStats`."""

    id: str
    stats: Stats


Event = Progress | Ready | Accepted | Output | Failed | StatsReply
