"""Engine options. Crosses to the engine process as JSON; unknown keys are refused."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from autoglm.errors import InvalidInputError


class EngineConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes and switches of one engine.

    Attributes:
        device: ``auto`` is CUDA if there, else CPU. dtype: ``auto`` is the checkpoint's on CUDA, float32 on CPU
            (where 16-bit products are slower).
        quantization: weights of the decoder in 8 or 4 bits; packed once, then kept in the cache folder. int8: on the
            CPU; fp8: made for CUDA, slow elsewhere.
        threads: intra-op threads of torch; 0 leaves torch's choice.
        context_length: cap on prompt + answer; ``None``: the model's.
        kv_cache_bytes: paged KV memory; ``None``: a share of what is free, at most eight full contexts.
        max_batch_tokens: rows of one step (decode tokens first, the rest prefill chunks).
        encoder_patches: image patches encoded in one step at most; one image always fits.
        visual_cache_bytes, image_cache_bytes: features by content; processed pixels by encoded bytes. 0: off.
        token_cache_bytes: tokenised pieces of prompts, such as the system prompt. 0: off.
        share_prompts: long tokenised texts and scaled screens are shared with other replicas, if there is a Redis:
        prompt_redis_url: its address; empty: ``AUTOGLM_REDIS_URL``, else none. Password: environment.
        prompt_namespace: replicas of one namespace share.
        prefix_caching: reuse of KV prefixes; off recomputes every prompt.
        host_kv_bytes: host memory for KV blocks that leave the pool; they come back by copy. 0: off.
        host_kv_min_blocks: fewer blocks are computed again rather than loaded; 0: measured at start.
        lookahead: so many waiting requests have what they will hit shielded from eviction; 0: off.
        kv_disk_directory, kv_disk_bytes: finished requests' blocks also go to files, found again after a restart.
        kv_redis_url, kv_redis_ttl: and to Redis (seconds), where other replicas find them; password: environment.
        kv_fetch_ms: a prompt waits no longer for disk or Redis, nor longer than computing would take.
        share_features: visual features go the same way.
        dual_streams: layout autoglm_phone: encode an image beside the layers that need none; off, one after the other.
        early_encode: encode an image while its prompt is still being built, if only decoding is to do. Off with several
            ranks, with blocks on disk or in Redis (the features may come from there) and without a visual cache.
        idle_prefill: compute what a dialogue's next prompt is expected to begin with while nothing else is to do.
        idle_step_ms: how long a step of that may take, and so hold up a request.
        evict_dropped: KV and features of images that a dialogue no longer shows are evicted first.
        native_decode: decode on the compiled kernels where they fit; off, on torch.
        native_prefill: steps of more rows on them, too, in float32 without tensor parallelism; needs native_decode.
        packed_kernels: on CUDA, steps of few rows read fp8 and int4 weights as they are packed.
        fused_layers: on CUDA, what stands between a layer's products in few kernels.
        paged_attention: of decode steps on CUDA: by kernel, by gathering, as measured at the start, or off, and each
            sequence on its own.
        decode_graphs: record decode steps as CUDA graphs; ``eager``: the same steps, not recorded, on any device.
        encoder_graphs: screen sizes whose encoding is kept recorded, on CUDA. 0: off.
        graph_bytes: device memory that recorded steps may keep, and recorded encoders as much again.
        speculation: draft tokens and verify several in a step, where that is quicker; the answers are the same.
        draft_tokens: of one sequence in a step at most.
        draft_examples: answers as the grammar has them: their fixed parts are drafted from the first answer on.
        tensor_parallel_size: ranks that share every layer's weights and heads; each is a process. ``threads`` is then
            for all of them, ``kv_cache_bytes`` of each.
        vision_parallel: what of the vision tower the tensor-parallel ranks share: ``tensor`` its heads and widths,
            ``data`` the images of a batch, ``sequence`` the patches of each image; each then has all of it.
        pipeline_parallel_size: stages of consecutive layers, each of ``tensor_parallel_size`` ranks.
        pipeline_bounds: first layer of each stage, as ``0,18``; empty: balanced by times measured at the start.
        pipeline_micro_batches: of one step's prefill; 0: two a stage.
        pipeline_in_flight: micro-batches at once over which the running sequences are split; 0: one a stage.
        rank_timeout: seconds without a sign of life after which a rank counts as lost.
        shared_memory: ranks of one host sum over shared memory; off, over the process group.
        compression: the least exact form of large sums between hosts, where a slow link makes it pay; never by default.
        huge_pages: the decoder's weights in memory with huge pages, where the system has them and the kernels decode.
        integer_products: with quantization, round what meets packed weights to 8 bits, where the kernels can.
        check_integrity: walk all caches whenever the engine is idle (debugging).
    """

    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quantization: Literal["none", "int8", "int4", "fp8"] = "none"
    threads: int = 0
    context_length: int | None = None
    kv_cache_bytes: int | None = None
    block_size: int = 16
    max_batch_tokens: int = 1024
    max_running: int = 32
    max_waiting: int = 256
    encoder_patches: int = 16384
    visual_cache_bytes: int = 512 * 2**20
    image_cache_bytes: int = 256 * 2**20
    token_cache_bytes: int = 8 * 2**20
    share_prompts: bool = True
    prompt_redis_url: str = ""
    prompt_namespace: str = "autoglm"
    prefix_caching: bool = True
    host_kv_bytes: int = 0
    host_kv_min_blocks: int = 0
    lookahead: int = 32
    kv_disk_directory: str = ""
    kv_disk_bytes: int = 4 * 2**30
    kv_redis_url: str = ""
    kv_redis_ttl: int = 3600
    kv_fetch_ms: int = 1000
    share_features: bool = True
    dual_streams: bool = True
    early_encode: bool = True
    idle_prefill: bool = True
    idle_step_ms: int = 30
    evict_dropped: bool = True
    native_decode: bool = True
    native_prefill: bool = True
    packed_kernels: bool = True
    fused_layers: bool = True
    paged_attention: Literal["auto", "kernel", "gather", "off"] = "auto"
    decode_graphs: Literal["auto", "eager", "off"] = "auto"
    encoder_graphs: int = 2
    graph_bytes: int = 2**30
    speculation: bool = True
    draft_tokens: int = 3
    draft_examples: tuple[str, ...] = ()
    tensor_parallel_size: int = 1
    vision_parallel: Literal["tensor", "data", "sequence"] = "tensor"
    pipeline_parallel_size: int = 1
    pipeline_bounds: str = ""
    pipeline_micro_batches: int = 0
    pipeline_in_flight: int = 0
    rank_timeout: float = 10.0
    shared_memory: bool = True
    compression: Literal["exact", "bf16", "int8", "int4"] = "exact"
    huge_pages: bool = True
    integer_products: bool = True
    check_integrity: bool = False
    prompt_workers: int = 2
    content_format: Literal["openai", "string"] = "openai"
    min_pixels: int | None = None
    max_pixels: int | None = None
    max_images: int = 16
    max_image_pixels: int = 50_000_000
    max_text_chars: int = 2**19

    def __post_init__(self) -> None:
        for name in ("block_size", "max_batch_tokens", "max_running", "max_waiting", "encoder_patches"):
            self._at_least(name, 1)
        for name in ("prompt_workers", "draft_tokens"):
            self._at_least(name, 1)
        self._at_least("threads", 0)
        self._at_least("context_length", 2)  # one token of prompt, one of answer
        for name in ("kv_cache_bytes", "visual_cache_bytes", "image_cache_bytes", "token_cache_bytes"):
            self._at_least(name, 0)
        for name in ("host_kv_bytes", "host_kv_min_blocks", "lookahead", "kv_disk_bytes", "kv_fetch_ms"):
            self._at_least(name, 0)
        for name in ("encoder_graphs", "graph_bytes"):
            self._at_least(name, 0)
        self._at_least("kv_redis_ttl", 1)
        self._at_least("idle_step_ms", 1)
        for name in ("tensor_parallel_size", "pipeline_parallel_size"):
            self._at_least(name, 1)
        for name in ("pipeline_micro_batches", "pipeline_in_flight"):
            self._at_least(name, 0)
        self._at_least("rank_timeout", 0.5)
        if self.vision_parallel != "tensor" and self.tensor_parallel_size == 1:
            raise InvalidInputError(
                f"vision_parallel {self.vision_parallel} shares work out over tensor-parallel ranks; there is one",
                field="vision_parallel",
                limit="tensor",
                value=self.vision_parallel,
            )
        if self.world_size > 1 and self.host_kv_bytes:
            raise InvalidInputError(
                "host_kv_bytes works with one rank: a block's KV is spread over the ranks",
                field="host_kv_bytes",
                limit=0,
                value=self.host_kv_bytes,
            )
        for name in ("kv_disk_directory", "kv_redis_url"):
            if getattr(self, name) and not self.host_kv_bytes:
                raise InvalidInputError(f"{name} needs host_kv_bytes: blocks come back through it", field=name)

    @property
    def knows_dialogues(self) -> bool:
        """Whether what a request was is remembered until the next one."""
        return self.prefix_caching and (self.idle_prefill or self.evict_dropped)

    @property
    def encodes_early(self) -> bool:
        """Whether images are encoded before their prompts are there."""
        elsewhere = self.world_size > 1 or self.kv_disk_directory or self.kv_redis_url
        return self.early_encode and self.visual_cache_bytes > 0 and not elsewhere

    @property
    def max_decode_rows(self) -> int:
        """Rows of a step of decoding at most: one of each sequence, and the drafts."""
        return self.max_running + (self.draft_tokens if self.speculation else 0)

    @property
    def world_size(self) -> int:
        """Ranks of the replica."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    def _at_least(self, name: str, low: float) -> None:
        value = getattr(self, name)
        if value is not None and value < low:
            raise InvalidInputError(f"{name} must be at least {low}, got {value}", field=name, limit=low, value=value)
