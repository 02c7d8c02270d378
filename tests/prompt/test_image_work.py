"""Images of one prompt in free threads: order, errors, and no waiting for a worker that waits."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from autoglm.errors import ImageError
from autoglm.prompt.image_work import ImageJob, ImageWork
from autoglm.prompt.types import ProcessedImage


def process(data: bytes) -> ProcessedImage:
    if data.startswith(b"bad"):
        raise ImageError("no image", field="image", value=len(data))
    return ProcessedImage(data, np.zeros(1, np.float32), (1, 1, 1), 1)


def jobs(*data: bytes) -> list[ImageJob]:
    return [(f"part {i}", one) for i, one in enumerate(data)]


def run(work: ImageWork) -> list[bytes]:
    work.begin()
    return [image.digest for image in work.finish()]


def test_every_image_in_order_and_handed_on_once() -> None:
    data = [bytes([i]) for i in range(9)]
    with ThreadPoolExecutor(3) as pool:
        for threads in (None, pool):
            told: list[ProcessedImage] = []
            assert run(ImageWork(process, jobs(*data), threads, told.append)) == data
            assert sorted(image.digest for image in told) == data


def test_the_only_worker_of_a_pool_does_it_all() -> None:
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(run, ImageWork(process, jobs(b"a", b"b", b"c"), pool, None))
        assert made.result(timeout=30) == [b"a", b"b", b"c"]


def test_a_free_worker_takes_the_second_image_while_the_first_is_decoded() -> None:
    both = threading.Barrier(2, timeout=30)

    def together(data: bytes) -> ProcessedImage:
        both.wait()  # broken unless two threads are at it
        return process(data)

    with ThreadPoolExecutor(1) as pool:
        assert run(ImageWork(together, jobs(b"a", b"b"), pool, None)) == [b"a", b"b"]


def test_the_first_image_that_is_none_is_named() -> None:
    with ThreadPoolExecutor(2) as pool:
        for threads in (None, pool):
            work = ImageWork(process, jobs(b"a", b"bad one", b"b", b"bad two"), threads, None)
            work.begin()
            with pytest.raises(ImageError, match="part 1: no image") as caught:
                work.finish()
            assert caught.value.field == "part 1"
