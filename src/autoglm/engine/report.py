"""What the engine tells about a finished choice, a token, and itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoglm.cache import Worth
from autoglm.cache.host import BlobStore, HostTier
from autoglm.engine.memory import resident_bytes
from autoglm.engine.output import Piece
from autoglm.engine.pipeline.bubble import BubbleReport
from autoglm.engine.pipeline.runner import PipelineRunner
from autoglm.engine.sampling import Choice
from autoglm.engine.sequence import Sequence
from autoglm.messages import CacheStats, Finish, Stats, TokenLogprob, TopLogprob, Usage
from autoglm.prompt import Tokenizer

if TYPE_CHECKING:
    from autoglm.engine.engine import Engine


def finish_of(sequence: Sequence, piece: Piece, now: float) -> Finish:
    """The last word on a choice."""
    return Finish(
        reason=piece.reason or "stop",
        matched=piece.matched,
        usage=Usage(
            prompt_tokens=sequence.prompt_len,
            completion_tokens=sequence.generated,
            cached_tokens=max(sequence.cached_tokens, 0),
            image_tokens=sequence.image_tokens,
            drafted_tokens=sequence.drafted,
            accepted_tokens=sequence.accepted,
        ),
        queue_seconds=sequence.first_scheduled - sequence.arrived,
        prefill_seconds=sequence.first_token - sequence.first_scheduled,
        decode_seconds=now - sequence.first_token,
    )


def logprobs_of(choice: Choice, tokenizer: Tokenizer) -> list[TokenLogprob] | None:
    """A sampled token's log-probabilities with their text."""
    if choice.logprobs is None:
        return None
    chosen, alternatives = choice.logprobs
    raw = tokenizer.token_bytes(choice.token)
    top = [
        TopLogprob(token=(b := tokenizer.token_bytes(i)).decode("utf-8", "replace"), raw=b, logprob=value)
        for i, value in alternatives
    ]
    return [TokenLogprob(token=raw.decode("utf-8", "replace"), raw=raw, logprob=chosen, top=top)]


def stats_of(engine: Engine) -> Stats:
    """A snapshot of counters and sizes."""
    kv = engine.kv
    drafted = engine.speculator.drafted if engine.speculator is not None else 0
    bubble = engine.runner.bubble() if isinstance(engine.runner, PipelineRunner) else BubbleReport()
    return Stats(
        waiting=len(engine.scheduler.waiting) + engine.admission.pending,
        running=len(engine.scheduler.running),
        steps=engine.steps,
        preemptions=engine.scheduler.preemptions,
        prompt_tokens=engine.prompt_tokens,
        cached_tokens=engine.cached_tokens,
        generated_tokens=engine.generated_tokens,
        decode_steps=engine.decode_steps,
        drafted_tokens=drafted,
        accepted_tokens=engine.accepted_tokens,
        acceptance_rate=engine.accepted_tokens / drafted if drafted else 0.0,
        tokens_per_step=1 + engine.accepted_tokens / engine.decode_steps if engine.decode_steps else 0.0,
        kv_blocks_total=kv.num_blocks,
        kv_blocks_free=kv.available,
        kv_block_tokens=kv.block_size,
        resident_bytes=resident_bytes(),
        early_encodes=engine.runner.encoder.ahead,
        early_used=engine.visual.ahead_used,
        early_wasted=engine.visual.ahead_wasted,
        idle_predictions=engine.idle.counters.predictions,
        idle_hits=engine.idle.counters.hits,
        idle_computed_tokens=engine.idle.counters.computed_tokens,
        idle_saved_tokens=engine.idle.counters.saved_tokens,
        idle_interruptions=engine.idle.counters.interruptions,
        dropped_images=engine.dialogues.dropped_images,
        dropped_blocks=kv.branches.dropped_blocks,
        pipeline_stages=engine.config.pipeline_parallel_size,
        pipeline_micro_batches=bubble.micro_batches,
        pipeline_bubble=bubble.measured,
        pipeline_bubble_formula=bubble.formula,
        caches=_caches_of(engine),
    )


def _caches_of(engine: Engine) -> list[CacheStats]:
    kv, visual = engine.kv, engine.visual
    token_bytes = engine.model.kv_spec.bytes_per_token * kv.block_size
    caches = [
        CacheStats(
            name="kv_prefix",
            hits=kv.counters.hits,
            misses=kv.counters.misses,
            evictions=kv.counters.evictions,
            entries=kv.indexed_blocks,
            causes={
                "capacity": max(0, kv.evictions_of(Worth.KNOWN) - kv.shielded_evictions),
                "shielded": kv.shielded_evictions,
                "dropped": kv.evictions_of(Worth.DROPPED),
                "guessed": kv.evictions_of(Worth.GUESSED),
            },
            hit_age_seconds=kv.counters.hit_age_seconds,
            evicted_age_seconds=kv.counters.evicted_age_seconds,
            bytes=kv.indexed_blocks * token_bytes,
            capacity_bytes=kv.num_blocks * token_bytes if kv.reuse else 0,
        ),
        CacheStats(
            name="visual_features",
            hits=visual.counters.hits,
            misses=visual.counters.misses,
            evictions=visual.counters.evictions,
            entries=len(visual),
            loads=visual.offered + visual.recalled,
            load_seconds=visual.recall_seconds,
            causes={
                "capacity": visual.counters.evictions - visual.dropped_evictions,
                "dropped": visual.dropped_evictions,
            },
            hit_age_seconds=visual.counters.hit_age_seconds,
            evicted_age_seconds=visual.counters.evicted_age_seconds,
            bytes=visual.bytes,
            capacity_bytes=visual.capacity_bytes,
        ),
        engine.prompts.images.stats(),
        engine.prompts.tokens.stats(),
    ]
    if kv.host is not None:
        caches.append(host_stats(kv.host))
    if engine.sharing is not None:
        caches += [store_stats(store) for store in engine.sharing.shared.stores]
    if engine.prompts.shared is not None:
        caches += engine.prompts.shared.stats()
    return caches


def host_stats(host: HostTier) -> CacheStats:
    """The host tier's; hits and misses in tokens, loads in blocks."""
    store = host.store
    return CacheStats(
        name="kv_host",
        hits=host.counters.hits,
        misses=host.counters.misses,
        evictions=sum(store.evictions.values()),
        entries=len(store),
        bytes=store.size,
        capacity_bytes=store.arena.total_bytes,
        loads=host.counters.loads,
        load_seconds=host.counters.seconds,
        causes=dict(store.evictions),
        hit_age_seconds=host.counters.hit_age_seconds,
        evicted_age_seconds=store.evicted_age_seconds,
    )


def store_stats(store: BlobStore) -> CacheStats:
    """A shared store's, in values: blocks and features."""
    counters = store.counters
    return CacheStats(
        name=store.name,
        hits=counters.hits,
        misses=counters.misses,
        evictions=counters.evictions,
        entries=counters.puts,
        bytes=store.size,
        capacity_bytes=store.capacity_bytes,
        loads=counters.hits,
        load_seconds=counters.seconds,
        causes={"broken": counters.broken, "errors": counters.errors},
    )
