"""Replicas that share scaled screens and tokenised texts through a real Redis: equal to the bit, made once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from autoglm.errors import ImageError, InvalidInputError
from autoglm.prompt import Glm4vImageProcessor, ImageOptions, ImagePipeline, PhoneImageProcessor, SharedPrompts
from autoglm.prompt.shared import LONG_TEXT, ScreenCodec
from autoglm.prompt.synthetic_images import encode, screenshot
from autoglm.prompt.token_cache import TokenCache
from autoglm.prompt.tokenizer import Tokenizer
from benchmarks.redis_server import RedisServer

SYSTEM = "You are a phone agent. 今天的日期是 2026年。\n\n" * 40
Replica = Callable[[], SharedPrompts]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def replica(redis: RedisServer) -> Iterator[Replica]:
    """Opens what one replica knows of the others; the store is empty at first."""
    with redis.client() as client:
        client.flushall()
    opened: list[SharedPrompts] = []

    def begin() -> SharedPrompts:
        opened.append(SharedPrompts(redis.url))
        return opened[-1]

    yield begin
    for each in opened:
        each.close()


class Counting(Glm4vImageProcessor):
    """The real processor; ``scaled`` counts what was decoded and scaled here."""

    def __init__(self, max_pixels: int | None = None) -> None:
        super().__init__(ImageOptions(), max_pixels=max_pixels)
        self.scaled = 0

    def resize(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        self.scaled += 1
        return super().resize(pixels)


def picture(seed: int) -> bytes:
    return encode(screenshot(140, 84, seed=seed))


def figures(shared: SharedPrompts, name: str) -> tuple[int, int, int]:
    found = next(stats for stats in shared.stats() if stats.name == name)
    return found.hits, found.misses, found.loads


def test_another_replica_scales_nothing_and_gets_the_same_bits(replica: Replica) -> None:
    plain = ImagePipeline(Glm4vImageProcessor(ImageOptions())).process(picture(1))
    found = []
    for scaled in (1, 0):
        shared, processor = replica(), Counting()
        pipeline = ImagePipeline(processor, shared=shared)
        found += [pipeline.process(picture(1)), pipeline.process(picture(1))]
        assert processor.scaled == scaled
        assert figures(shared, "images_redis") == (1 - scaled, scaled, scaled)  # the second time is the first level's
    for image in found:
        assert (image.digest, image.grid, image.num_tokens) == (plain.digest, plain.grid, plain.num_tokens)
        assert np.array_equal(image.pixels, plain.pixels)


def test_the_phone_layout_is_shared_too(replica: Replica) -> None:
    first, second = (ImagePipeline(PhoneImageProcessor(ImageOptions()), shared=replica()) for _ in range(2))
    one, two = first.process(picture(2)), second.process(picture(2))
    assert one.digest == two.digest
    assert np.array_equal(one.pixels, two.pixels)


def test_another_processor_is_another_screen(replica: Replica) -> None:
    small, large = Counting(max_pixels=12544), Counting()
    shared = replica()
    images = [ImagePipeline(processor, shared=shared).process(picture(3)) for processor in (small, large)]
    assert (small.scaled, large.scaled) == (1, 1)
    assert images[0].grid != images[1].grid


def test_what_is_no_screen_of_ours_is_made_again(replica: Replica, redis: RedisServer) -> None:
    processor = Counting()
    whole = ImagePipeline(processor, shared=replica()).process(picture(4))
    with redis.client() as client:
        (key,) = client.keys("autoglm:v:images:*")
        held = client.get(key)
    wrong = np.zeros((30, 30, 3), np.uint8)  # a screen, but of no size that this processor makes
    for damage in (b"12345678not a frame", held[: len(held) // 2], held[:-2]):
        with redis.client() as client:
            client.set(key, damage, px=60_000)
        assert ImagePipeline(processor, shared=replica()).process(picture(4)).digest == whole.digest
    shared = replica()
    shared.images.put(key.decode().rpartition(":")[2], wrong)
    assert ImagePipeline(processor, shared=shared).process(picture(4)).digest == whole.digest
    for bad in (np.zeros((28, 28), np.uint8), np.zeros((28, 28, 3), np.float32), np.zeros((0, 28, 3), np.uint8)):
        with pytest.raises(ValueError, match="not a screen"):
            ScreenCodec().decode(ScreenCodec().encode(bad))


def test_a_file_that_is_no_image_fails_everywhere_and_is_not_kept(replica: Replica, redis: RedisServer) -> None:
    for _ in range(2):
        with pytest.raises(ImageError):
            ImagePipeline(Counting(), shared=replica()).process(b"no image")
    with redis.client() as client:
        assert client.keys("autoglm:v:*") == []


def test_replicas_at_once_scale_once(replica: Replica) -> None:
    processors = [Counting() for _ in range(3)]
    pipelines = [ImagePipeline(processor, shared=replica()) for processor in processors]
    start = threading.Barrier(len(pipelines))
    found: list[bytes] = []

    def work(pipeline: ImagePipeline) -> None:
        start.wait()
        found.append(pipeline.process(picture(5)).digest)

    threads = [threading.Thread(target=work, args=(pipeline,)) for pipeline in pipelines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 3
    assert sum(processor.scaled for processor in processors) == 1


def test_a_system_prompt_is_tokenised_by_one_replica(replica: Replica, tokenizer: Tokenizer) -> None:
    assert len(SYSTEM) > LONG_TEXT
    text = f"<|system|>{SYSTEM}<|user|>short<|assistant|>"
    for hits in (0, 1):
        shared = replica()
        cache = TokenCache(tokenizer, shared=shared)
        assert cache.encode(text) == cache.encode(text) == tokenizer.encode(text)
        assert figures(shared, "texts_redis") == (hits, 1 - hits, 1 - hits)  # the short piece is not asked for


def test_ids_of_another_vocabulary_are_not_taken(replica: Replica, tokenizer: Tokenizer, redis: RedisServer) -> None:
    TokenCache(tokenizer, shared=replica()).encode(SYSTEM)
    with redis.client() as client:
        (key,) = client.keys("autoglm:v:texts:*")
    for wrong in ([tokenizer.vocab_size], [-1], []):
        shared = replica()
        shared.texts.put(key.decode().rpartition(":")[2], wrong)
        assert TokenCache(tokenizer, shared=shared).encode(SYSTEM) == tokenizer.encode(SYSTEM)


def test_without_its_store_everything_goes_on(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with RedisServer(tmp_path) as own:
        shared = SharedPrompts(own.url)
        pipeline, tokens = ImagePipeline(Counting(), shared=shared), TokenCache(tokenizer, shared=shared)
        pipeline.process(picture(6))
        own.kill()
        for seed in range(7, 10):
            plain = Glm4vImageProcessor(ImageOptions()).process(screenshot(140, 84, seed=seed)[..., :3])
            assert pipeline.process(picture(seed)).digest == plain.digest
        assert tokens.encode(SYSTEM) == tokenizer.encode(SYSTEM)
        shared.close()


def test_off_switches(replica: Replica) -> None:
    shared = replica()
    ImagePipeline(Counting(), shared=shared, capacity_bytes=0).process(picture(1))
    assert figures(shared, "images_redis") == (0, 0, 0)
    with pytest.raises(InvalidInputError):
        SharedPrompts("http://nowhere/")
