from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from autoglm.errors import ImageError, InvalidInputError
from autoglm.prompt import (
    Glm4vImageProcessor,
    ImageLimits,
    ImageOptions,
    ImagePipeline,
    ProcessedImage,
    decode_image,
    encoded_digest,
)
from autoglm.prompt.synthetic_images import encode, screenshot


class CountingProcessor(Glm4vImageProcessor):
    """The real processor, counting its calls; slow enough for threads to meet when given a barrier."""

    def __init__(self) -> None:
        super().__init__(ImageOptions())
        self.calls = 0
        self._lock = Lock()

    def process(self, pixels: NDArray[np.uint8]) -> ProcessedImage:
        with self._lock:
            self.calls += 1
        return super().process(pixels)


def picture(seed: int) -> bytes:
    return encode(screenshot(112, 112, seed=seed))


ONE = 8 * 8 * 1176 * 4
FILES = [picture(seed) for seed in range(6)]
DIGESTS = [Glm4vImageProcessor(ImageOptions()).process(decode_image(file, ImageLimits())).digest for file in FILES]


def test_same_bytes_are_processed_once() -> None:
    processor = CountingProcessor()
    pipeline = ImagePipeline(processor)
    first = pipeline.process(picture(1))
    assert pipeline.process(picture(1)) is first
    assert pipeline.lookup(encoded_digest(picture(1))) is first
    assert pipeline.lookup(encoded_digest(b"")) is None
    stats = pipeline.stats()
    assert (processor.calls, stats.hits, stats.misses, stats.bytes) == (1, 1, 1, ONE)


def test_the_least_recently_used_leaves_first() -> None:
    pipeline = ImagePipeline(CountingProcessor(), capacity_bytes=2 * ONE)
    for seed in (1, 2, 1, 3):
        pipeline.process(picture(seed))
    kept = [s for s in (1, 2, 3) if pipeline.lookup(encoded_digest(picture(s)))]
    stats = pipeline.stats()
    assert kept == [1, 3]
    assert (stats.entries, stats.evictions, stats.bytes, stats.capacity_bytes) == (2, 1, 2 * ONE, 2 * ONE)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 4), st.lists(st.integers(0, 5), max_size=30))
def test_against_a_plain_lru(room: int, asked: list[int]) -> None:
    processor = CountingProcessor()
    pipeline = ImagePipeline(processor, capacity_bytes=room * ONE)
    order: list[int] = []
    decoded = 0
    for seed in asked:
        if seed in order:
            order.remove(seed)
        else:
            decoded += 1
        order = [*order, seed][-room:]
        assert pipeline.process(FILES[seed]).digest == DIGESTS[seed]
        assert [s for s in range(6) if pipeline.lookup(encoded_digest(FILES[s]))] == sorted(order)
    stats = pipeline.stats()
    assert (processor.calls, stats.misses, stats.hits) == (decoded, decoded, len(asked) - decoded)
    assert (stats.entries, stats.bytes, stats.evictions) == (len(order), len(order) * ONE, decoded - len(order))


def test_off_switch_and_oversized_images() -> None:
    for capacity in (0, ONE - 1):
        processor = CountingProcessor()
        pipeline = ImagePipeline(processor, capacity_bytes=capacity)
        first, second = pipeline.process(picture(1)), pipeline.process(picture(1))
        assert first.digest == second.digest
        stats = pipeline.stats()
        assert (processor.calls, stats.entries, stats.bytes, stats.hits, stats.misses) == (2, 0, 0, 0, 2)


def test_negative_capacity() -> None:
    with pytest.raises(InvalidInputError):
        ImagePipeline(CountingProcessor(), capacity_bytes=-1)


def test_concurrent_identical_images_share_one_decoding() -> None:
    processor = CountingProcessor()
    pipeline = ImagePipeline(processor)
    barrier = Barrier(8)
    data = [picture(1), picture(2)]

    def work(index: int) -> bytes:
        barrier.wait()
        return pipeline.process(data[index % 2]).digest

    with ThreadPoolExecutor(8) as pool:
        digests = list(pool.map(work, range(8)))
    assert len(set(digests)) == 2
    assert processor.calls == 2
    assert pipeline.stats().hits == 6


def test_failures_reach_all_and_are_not_kept() -> None:
    pipeline = ImagePipeline(CountingProcessor())
    barrier = Barrier(4)

    def work(_: int) -> str:
        barrier.wait()
        with pytest.raises(ImageError):
            pipeline.process(picture(1)[:60])
        return "failed"

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == ["failed"] * 4
    assert pipeline.stats().entries == 0
    pipeline.process(picture(1))
