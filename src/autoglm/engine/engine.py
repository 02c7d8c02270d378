"""The engine: one step is schedule, run, sample, emit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import repeat
from pathlib import Path

import torch

from autoglm.cache import ImageOrdinals, KVCache, PartialCopy, SessionHints, VisualCache, sighted_identity
from autoglm.engine.admission import Admission, Job
from autoglm.engine.config import EngineConfig
from autoglm.engine.early import EarlyImages
from autoglm.engine.features import HostFeatures
from autoglm.engine.host import host_tier
from autoglm.engine.idle import Dialogues, IdlePrefill
from autoglm.engine.idle.prediction import Prediction
from autoglm.engine.idle.replay import Answer
from autoglm.engine.loading import device_kind, load_model
from autoglm.engine.memory import kv_blocks
from autoglm.engine.pipeline.start import flights_of
from autoglm.engine.ranks.group import RankGroup
from autoglm.engine.ranks.replica import runner_of, start_replica
from autoglm.engine.report import finish_of, logprobs_of, stats_of
from autoglm.engine.sampling import Choice, best_at_once
from autoglm.engine.scheduler import Chunk, Scheduler
from autoglm.engine.sequence import Sequence
from autoglm.engine.sharing import Sharing, shared_prompts
from autoglm.engine.speculation import Speculator
from autoglm.engine.speculation.verify import settle
from autoglm.errors import AutoGLMError
from autoglm.messages import (
    Accepted,
    ErrorInfo,
    Event,
    Failed,
    KeepSession,
    ModelInfo,
    Output,
    SamplingParams,
    Stats,
    Submit,
)
from autoglm.model.context import ImageFeatures
from autoglm.model.quantized import parameter_count
from autoglm.model.registry import Model
from autoglm.prompt import ImageLimits, Prompt, PromptBuilder, PromptLimits

_ARRIVAL_SECONDS = 0.002


class Engine:
    """Serves many requests at once. One thread calls it; only prompt building runs beside it."""

    def __init__(
        self, model: Model, prompts: PromptBuilder, config: EngineConfig, ranks: RankGroup | None = None
    ) -> None:
        self.config = config
        self.model = model
        self.prompts = prompts
        self.parameters = parameter_count(model) if ranks is None else ranks.parameters
        self.ranks = ranks
        blocks = kv_blocks(config, model)
        ordinals = ImageOrdinals()
        self.visual: VisualCache[ImageFeatures] = VisualCache(config.visual_cache_bytes)
        self.runner = runner_of(model, blocks, config, self.visual, ranks)
        host, found = host_tier(config, model, self.runner.store, ordinals)
        self.kv = KVCache(
            blocks,
            config.block_size,
            reuse=config.prefix_caching,
            host=host,
            spare=-(-config.max_batch_tokens // config.block_size),
        )
        self.hints = SessionHints(self.kv.shields, blocks // 2)
        if host is not None:
            self.visual.lower = HostFeatures(host, model.device)
        self.sharing = None
        if host is not None and (config.kv_disk_directory or config.kv_redis_url):
            self.visual.tower = host.names.identity
            compute = found.compute if found else None
            self.sharing = Sharing(config, self.kv, host, self.visual, compute, model.device)
        self.flights = flights_of(self.runner, config)
        self.speculator = None  # pipeline stages would wait for the last one's verdict on a draft
        if self.flights is None:
            self.speculator = Speculator.of(config, prompts.tokenizer, model.stop_token_ids, self.runner.rows_alike)
        self.scheduler = Scheduler(config, self.kv, self.visual, self._copy, self.sharing, self.speculator)
        self.admission = Admission(
            config, model, prompts, blocks * config.block_size, ordinals, early_images=config.encodes_early
        )
        self.early = EarlyImages(self.admission.decoded, self.runner.encoder, self.visual, config.encoder_patches)
        self.dialogues = Dialogues(self.kv, self.visual, self.hints, drop=config.evict_dropped)
        self.idle = IdlePrefill(
            self.kv,
            self.visual,
            self.dialogues,
            prompts,
            run=self._run_ahead,
            copy=self._copy,
            outline=self._outline,
            step_seconds=config.idle_step_ms / 1e3,
            most_tokens=config.max_batch_tokens,
        )
        self.steps = self.prompt_tokens = self.cached_tokens = self.generated_tokens = 0
        self.decode_steps = self.accepted_tokens = 0
        # Of a step on the CPU: other processes do not count. A CUDA step passes while this thread waits.
        self.clock = time.thread_time if model.device.type == "cpu" else time.perf_counter
        self._live: dict[str, list[Sequence]] = {}
        self._events: list[Event] = []

    @classmethod
    def from_checkpoint(
        cls, path: Path, config: EngineConfig | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Engine:
        """Load model and prompt parts from a checkpoint folder."""
        config = config or EngineConfig()
        if config.threads:
            torch.set_num_threads(config.threads)
        ranks = None
        if config.world_size > 1:
            model, ranks = start_replica(path, config, progress)
        else:
            model = load_model(path, config, torch.device(device_kind(config)), progress)
        prompts = PromptBuilder.from_checkpoint(
            path,
            model.layout,
            content_format=config.content_format,
            limits=PromptLimits(max_images=config.max_images, max_text_chars=config.max_text_chars),
            image_limits=ImageLimits(max_pixels=config.max_image_pixels),
            min_pixels=config.min_pixels,
            max_pixels=config.max_pixels,
            image_cache_bytes=config.image_cache_bytes,
            token_cache_bytes=config.token_cache_bytes,
            shared=shared_prompts(config),
        )
        return cls(model, prompts, config, ranks)

    @property
    def has_work(self) -> bool:
        """Whether :meth:`step` would do something now, or soon (a prompt is being built)."""
        return bool(self._live or self._events or self.admission.pending)

    @property
    def can_step(self) -> bool:
        """Whether :meth:`step` would do something now."""
        return bool(self._live or self._events or self.admission.has_ready or self.early.ready)

    def on_ready(self, wake: Callable[[], None]) -> None:
        """Have ``wake`` called, on another thread, whenever :attr:`can_step` may have become true."""
        self.admission.wake = self.runner.encoder.on_idle = wake

    def submit(self, command: Submit) -> None:
        """Queue a request; what is wrong with it comes back as a :class:`Failed` event."""
        try:
            self.admission.submit(command, len(self.scheduler.waiting))
        except AutoGLMError as error:
            self._events.append(Failed(command.id, ErrorInfo.of(error)))

    def submit_prompt(
        self,
        request_id: str,
        prompt: Prompt,
        sampling: SamplingParams,
        *,
        n: int = 1,
        priority: int = 0,
        salt: str = "",
    ) -> None:
        """Queue a prompt that is built already."""
        self.admission.check(sampling, n)
        self._start(Job(request_id, sampling, n, priority, salt, prompt))

    def cancel(self, request_id: str) -> None:
        """Forget a request at once, wherever it is; no event follows. Unknown ids are fine (it may just have ended)."""
        self.admission.cancel(request_id)
        self._events = [e for e in self._events if getattr(e, "id", None) != request_id]
        for sequence in self._live.pop(request_id, ()):
            self.scheduler.finish(sequence)
        self.dialogues.abandon(request_id)

    def idle_step(self) -> bool:
        """A short step of work that nobody waits for yet; ``False`` if there is none, or real work to do."""
        return not self.has_work and self.idle.step()

    def step(self) -> list[Event]:
        """Run one step; returns what happened, in order."""
        self.idle.pause()
        for job in self.admission.take():
            self._start(job)
        self.early.step(self.scheduler)
        self.hints.expire()
        if self.flights is not None:
            for sequence, choice in self.flights.advance(self.scheduler):
                self._emit(sequence, choice)
            self.steps = self.flights.launched
        elif chunks := self._scheduled():
            self._run(chunks)
        elif self.sharing is not None and self.scheduler.waiting:
            self.sharing.wait(_ARRIVAL_SECONDS)
        events, self._events = self._events, []
        return events

    def _scheduled(self) -> list[Chunk]:
        chunks = self.scheduler.schedule()
        self.kv.flush()
        return chunks

    def keep(self, command: KeepSession) -> None:
        """Hold on to, or let go of, the KV of a session."""
        self.hints.keep((command.cache_salt, command.session), command.seconds)
        if command.seconds <= 0:
            for dialogue in self.dialogues.purge(command.session):
                self.idle.give_up(dialogue)

    def info(self) -> ModelInfo:
        """What is loaded."""
        return ModelInfo(
            layout=self.model.layout,
            parameters=self.parameters,
            dtype=str(self.model.dtype).removeprefix("torch."),
            device=str(self.model.device),
            context_length=self.admission.context_length,
            vocab_size=self.model.vocab_size,
            stop_token_ids=self.model.stop_token_ids,
        )

    def stats(self) -> Stats:
        """A snapshot."""
        return stats_of(self)

    def check_integrity(self) -> None:
        """Walk every cache; raises :class:`RuntimeError` on the first thing that disagrees."""
        live = [s for group in self._live.values() for s in group]
        self.kv.check_integrity(sum(1 for s in live if s.table is not None) + self.idle.open_tables)
        self.visual.check_integrity(sum(len(s.features) for s in live) + self.idle.pins)

    def close(self) -> None:
        """Stop the prompt workers and the other ranks; write what is to be shared."""
        self.idle.pause()
        self.admission.close()
        if self.sharing is not None:
            self.sharing.close()
        if self.prompts.shared is not None:
            self.prompts.shared.close()
        self.runner.close()

    def _copy(self, copy: PartialCopy) -> None:
        self.kv.flush()
        self.runner.copy(copy)

    def _start(self, job: Job) -> None:
        try:
            if job.id in self._live:
                raise AutoGLMError(f"request id {job.id} is in use", field="id", value=job.id)
            if job.error is not None:
                raise job.error
            sequences = self.admission.sequences(job)
        except AutoGLMError as error:
            self._events.append(Failed(job.id, ErrorInfo.of(error)))
            return
        except Exception as error:  # a bug met by one request: its client hears of it, the others go on
            wrapped = AutoGLMError(f"building the prompt failed: {type(error).__name__}")
            self._events.append(Failed(job.id, ErrorInfo.of(wrapped)))
            return
        self._live[job.id] = sequences
        for sequence in sequences:
            self.scheduler.add(sequence)
        self.early.shown(sequences[0])
        if job.shadow is not None:
            before = self.dialogues.begin(sequences[0], job.shadow)
            if before is not None:
                self.idle.give_up(before)
        if self.sharing is not None:
            self.sharing.start(sequences[0])  # the others wait for it
        first = sequences[0]
        self._events.append(
            Accepted(
                id=job.id,
                prompt_tokens=first.prompt_len,
                image_tokens=first.image_tokens,
                max_tokens=first.max_tokens,
            )
        )

    def _run(self, chunks: list[Chunk]) -> None:
        now, spent = time.perf_counter(), self.clock() if self.speculator is not None else 0.0
        for chunk in chunks:
            if not chunk.sequence.first_scheduled:
                chunk.sequence.first_scheduled = now
        logits = self.runner.run(chunks)
        for chunk in chunks:
            self.scheduler.computed(chunk.known)
        sampling = [(chunk, chunk.sampled) for chunk in chunks if chunk.sampled]  # what is emitted changes the count
        best: Iterable[list[int] | None] = repeat(None)
        if logits.device.type != "cpu":
            best = best_at_once(logits, [(chunk.sequence.sampler, chunk.draft) for chunk, _ in sampling])
        row = accepted = 0
        for (chunk, sampled), tokens in zip(sampling, best, strict=False):
            self.decode_steps += chunk.sequence.generated > 0
            accepted += settle(chunk, logits, row, self.scheduler.computed, self._emit, tokens)
            row += sampled
        self.accepted_tokens += accepted
        if self.speculator is not None:
            self.speculator.ran(chunks, self.clock() - spent, accepted)
        self.steps += 1

    def _emit(self, sequence: Sequence, choice: Choice) -> None:
        now = time.perf_counter()
        if not sequence.generated:
            sequence.first_token = now
            self.prompt_tokens += sequence.prompt_len
            self.cached_tokens += max(sequence.cached_tokens, 0)
        sight = sequence.sight_at(len(sequence.token_ids))
        sequence.append(choice.token, sighted_identity(choice.token, sight))
        sequence.sampler.record(choice.token)
        self.generated_tokens += 1
        piece = sequence.output.push(choice.token)
        finish = finish_of(sequence, piece, now) if piece.reason else None
        self._events.append(
            Output(
                id=sequence.request_id,
                index=sequence.index,
                text=piece.text,
                token_ids=[choice.token],
                logprobs=logprobs_of(choice, self.prompts.tokenizer),
                finish=finish,
            )
        )
        if finish is not None:
            self.scheduler.finish(sequence)
            self._remember(sequence)
            group = self._live[sequence.request_id]
            group.remove(sequence)
            if not group:
                del self._live[sequence.request_id]

    def _remember(self, sequence: Sequence) -> None:
        """A choice is done: its session's hint, what other processes may want of it, what it teaches about others."""
        if sequence.session:
            self.hints.note((sequence.salt, sequence.session), sequence.leaf, sequence.keep_seconds)
        if self.sharing is not None:
            self.sharing.finished(sequence.leaf)
        if self.speculator is not None:
            self.speculator.finished(sequence)
        generated = sequence.token_ids[sequence.prompt_len :]
        answer = Answer(self.prompts.tokenizer, sequence.sampling, self.model.stop_token_ids, generated)
        dialogue = self.dialogues.end(sequence, answer)
        if dialogue is not None:
            self.idle.arrived(dialogue, sequence)
            if self.config.idle_prefill and self.flights is None:
                self.idle.expect(dialogue)

    def _run_ahead(self, chunks: list[Chunk]) -> None:
        self.runner.run(chunks)
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)  # else steps queue up there, and real work behind them

    def _outline(self, prediction: Prediction, salt: str) -> Sequence:
        sampling = SamplingParams(temperature=0.0, max_tokens=1)
        return self.admission.sequences(Job("idle", sampling, 1, 0, salt, prediction.prompt))[0]
