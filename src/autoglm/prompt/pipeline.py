"""Encoded bytes to :class:`ProcessedImage`, remembering the latest ones."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future
from threading import Lock

from autoglm.errors import InvalidInputError
from autoglm.messages.events import CacheStats
from autoglm.prompt.image_codec import ImageLimits, decode_image, encoded_digest
from autoglm.prompt.image_processor import ImageProcessor
from autoglm.prompt.types import ProcessedImage

_Key = tuple[bytes, bytes]


class ImagePipeline:
    """A bounded LRU from (sha-256 of the encoded file, processor fingerprint) to the processed image.

    Thread-safe; any number of threads may call :meth:`process`. Threads that bring the same file at the
    same time share one decoding. Results are shared: nobody may write to their pixels. Failures are not
    remembered.

    Args:
        capacity_bytes: room for processed pixels (63 MB each for 1080x2400 in the glm4v layout). 0 turns
            the memory and the sharing off: every call decodes.
    """

    def __init__(
        self,
        processor: ImageProcessor,
        *,
        limits: ImageLimits | None = None,
        capacity_bytes: int = 512 * 2**20,
    ) -> None:
        if capacity_bytes < 0:
            raise InvalidInputError(
                "capacity_bytes must not be negative", field="capacity_bytes", limit=0, value=capacity_bytes
            )
        self.processor = processor
        self.limits = limits or ImageLimits()
        self._capacity = capacity_bytes
        self._lock = Lock()
        self._entries: OrderedDict[_Key, ProcessedImage] = OrderedDict()
        self._running: dict[_Key, Future[ProcessedImage]] = {}
        self._bytes = self._hits = self._misses = self._evictions = 0

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
            if key in self._entries:
                self._hits += 1
                self._entries.move_to_end(key)
                return self._entries[key]
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

        Not counted as hit or miss.
        """
        with self._lock:
            return self._entries.get((digest, self.processor.fingerprint))

    def stats(self) -> CacheStats:
        """Counters since start. A hit is a call that decoded nothing."""
        with self._lock:
            return CacheStats(
                name="processed_images",
                hits=self._hits,
                misses=self._misses,
                evictions=self._evictions,
                entries=len(self._entries),
                bytes=self._bytes,
                capacity_bytes=self._capacity,
            )

    def _lead(self, key: _Key, data: bytes, future: Future[ProcessedImage]) -> ProcessedImage:
        try:
            image = self._compute(data)
        except BaseException as error:
            with self._lock:
                del self._running[key]
            future.set_exception(error)
            raise
        with self._lock:
            del self._running[key]
            self._store(key, image)
        future.set_result(image)
        return image

    def _compute(self, data: bytes) -> ProcessedImage:
        return self.processor.process(decode_image(data, self.limits))

    def _store(self, key: _Key, image: ProcessedImage) -> None:
        """Under the lock. An image larger than the whole capacity is not kept."""
        if image.pixels.nbytes > self._capacity:
            return
        self._entries[key] = image
        self._bytes += image.pixels.nbytes
        while self._bytes > self._capacity:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= oldest.pixels.nbytes
            self._evictions += 1
