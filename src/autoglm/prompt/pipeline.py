"""Encoded bytes to :class:`ProcessedImage`, remembering the latest ones."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future
from threading import Lock

from autoglm.cache.local import LocalCache, LocalConfig, Policy
from autoglm.errors import InvalidInputError
from autoglm.messages.events import CacheStats
from autoglm.prompt.image_codec import ImageLimits, decode_image, encoded_digest
from autoglm.prompt.image_processor import ImageProcessor
from autoglm.prompt.shared import SharedPrompts, content_key
from autoglm.prompt.types import ProcessedImage

log = logging.getLogger(__name__)
_Key = tuple[bytes, bytes]
_MAX_ENTRIES = 4096


class ImagePipeline:
    """A bounded LRU from (sha-256 of the encoded file, processor fingerprint) to the processed image.

    Thread-safe; any number of threads may call :meth:`process`. Threads that bring the same file at the
    same time share one decoding. Results are shared: nobody may write to their pixels. Failures are not
    remembered.

    Args:
        capacity_bytes: room for processed pixels (63 MB each for 1080x2400 in the glm4v layout). 0 turns
            the memory and the sharing off: every call decodes.
        shared: where replicas find one another's scaled screens; ``None``: nowhere.
    """

    def __init__(
        self,
        processor: ImageProcessor,
        *,
        limits: ImageLimits | None = None,
        capacity_bytes: int = 512 * 2**20,
        shared: SharedPrompts | None = None,
    ) -> None:
        if capacity_bytes < 0:
            raise InvalidInputError(
                "capacity_bytes must not be negative", field="capacity_bytes", limit=0, value=capacity_bytes
            )
        self.processor = processor
        self.limits = limits or ImageLimits()
        self._capacity = capacity_bytes
        self._shared = shared
        self._lock = Lock()
        # Plain LRU: a dialogue comes back to its last screens, and a screen of long ago to nobody.
        room = LocalConfig(max_entries=_MAX_ENTRIES, max_weight=capacity_bytes, ttl=None, policy=Policy.LRU)
        self._entries: LocalCache[_Key, ProcessedImage] = LocalCache(room)
        self._running: dict[_Key, Future[ProcessedImage]] = {}
        self._hits = self._misses = self._loads = 0
        self._load_seconds = 0.0

    def process(self, data: bytes) -> ProcessedImage:
        """Decode, resize and patch ``data``, or return what an equal file gave.

        Raises:
            ImageError: see :func:`decode_image`.
        """
        if self._capacity == 0:
            with self._lock:
                self._misses += 1
            return self._compute(data)
        key = (encoded_digest(data), self.processor.fingerprint)
        with self._lock:
            image = self._entries.get(key)
            if image is not None:
                self._hits += 1
                return image
            future = self._running.get(key)
            if future is not None:
                self._hits += 1
            else:
                self._misses += 1
                mine = self._running[key] = Future()
        if future is not None:
            return future.result()
        return self._lead(key, data, mine)

    def lookup(self, digest: bytes) -> ProcessedImage | None:
        """What a file with this :func:`encoded_digest` gave, if it is still here.

        Not counted as hit or miss, and not a use.
        """
        return self._entries.peek((digest, self.processor.fingerprint))

    def clear(self) -> None:
        """Forget all images; calls under way end as they would have."""
        self._entries.clear()

    def stats(self) -> CacheStats:
        """Counters since start. A hit is a call that decoded nothing."""
        entries = self._entries.stats()
        with self._lock:
            return CacheStats(
                name="processed_images",
                hits=self._hits,
                misses=self._misses,
                evictions=entries.evictions,
                entries=entries.entries,
                bytes=entries.weight,
                capacity_bytes=self._capacity,
                loads=self._loads,
                load_seconds=self._load_seconds,
                causes={str(cause): count for cause, count in entries.removed.items()},
                hit_age_seconds=entries.hit_age_seconds,
                evicted_age_seconds=entries.evicted_age_seconds,
            )

    def _lead(self, key: _Key, data: bytes, future: Future[ProcessedImage]) -> ProcessedImage:
        started = time.perf_counter()
        try:
            image = self._compute(data) if self._shared is None else self._fetch(key[0], data, self._shared)
        except BaseException as error:
            with self._lock:
                del self._running[key]
            future.set_exception(error)
            raise
        with self._lock:
            del self._running[key]
            self._loads += 1
            self._load_seconds += time.perf_counter() - started
            if image.pixels.nbytes <= self._capacity:  # a larger one would only push out all others
                self._entries.put(key, image, weight=image.pixels.nbytes)
        future.set_result(image)
        return image

    def _fetch(self, digest: bytes, data: bytes, shared: SharedPrompts) -> ProcessedImage:
        """Made of another replica's scaled screen, or else of ``data``, for the others too."""
        processor = self.processor
        name = content_key(digest, processor.fingerprint)
        resized = shared.images.get_or_load(name, lambda _: processor.resize(decode_image(data, self.limits)))
        try:
            return self._compute(data) if resized is None else processor.finish(resized)
        except ValueError:
            log.warning("a shared screen is of no size that this processor makes; made again from its file")
            return self._compute(data)

    def _compute(self, data: bytes) -> ProcessedImage:
        return self.processor.process(decode_image(data, self.limits))
