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
        quantization: weights of the decoder in 8 or 4 bits (CPU); packed once, then kept in the cache folder.
        threads: intra-op threads of torch; 0 leaves torch's choice.
        context_length: cap on prompt + answer; ``None``: the model's.
        kv_cache_bytes: paged KV memory; ``None``: a share of what is free, at most eight full contexts.
        max_batch_tokens: rows of one step (decode tokens first, the rest prefill chunks).
        encoder_patches: image patches encoded in one step at most; one image always fits.
        visual_cache_bytes, image_cache_bytes: features by content; processed pixels by encoded bytes. 0: off.
        token_cache_bytes: tokenised pieces of prompts, such as the system prompt. 0: off.
        prefix_caching: reuse of KV prefixes; off recomputes every prompt.
        host_kv_bytes: host memory for KV blocks that leave the pool; they come back by copy. 0: off.
        host_kv_min_blocks: fewer blocks are computed again rather than loaded; 0: measured at start.
        lookahead: so many waiting requests have what they will hit shielded from eviction; 0: off.
        kv_disk_directory, kv_disk_bytes: finished requests' blocks also go to files, found again after a restart.
        kv_redis_url, kv_redis_ttl: and to Redis (seconds), where other replicas find them; password: environment.
        kv_fetch_ms: a prompt waits no longer for disk or Redis, nor longer than computing would take.
        share_features: visual features go the same way.
        dual_streams: layout autoglm_phone: encode an image beside the layers that need none; off, one after the other.
        native_decode: decode on the compiled kernels where they fit; off, on torch.
        huge_pages: the decoder's weights in memory with huge pages, where the system has them and the kernels decode.
        integer_products: with quantization, round what meets packed weights to 8 bits, where the kernels can.
        check_integrity: walk all caches whenever the engine is idle (debugging).
    """

    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quantization: Literal["none", "int8", "int4"] = "none"
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
    native_decode: bool = True
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
        self._at_least("prompt_workers", 1)
        self._at_least("threads", 0)
        self._at_least("context_length", 2)  # one token of prompt, one of answer
        for name in ("kv_cache_bytes", "visual_cache_bytes", "image_cache_bytes", "token_cache_bytes"):
            self._at_least(name, 0)
        for name in ("host_kv_bytes", "host_kv_min_blocks", "lookahead", "kv_disk_bytes", "kv_fetch_ms"):
            self._at_least(name, 0)
        self._at_least("kv_redis_ttl", 1)
        for name in ("kv_disk_directory", "kv_redis_url"):
            if getattr(self, name) and not self.host_kv_bytes:
                raise InvalidInputError(f"{name} needs host_kv_bytes: blocks come back through it", field=name)

    def _at_least(self, name: str, low: int) -> None:
        value = getattr(self, name)
        if value is not None and value < low:
            raise InvalidInputError(f"{name} must be at least {low}, got {value}", field=name, limit=low, value=value)
