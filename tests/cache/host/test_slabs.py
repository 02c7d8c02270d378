"""The arena against a plain model: bytes stay who they are, and free bytes are always usable."""

from __future__ import annotations

import random

import pytest

from autoglm.cache.host import SlabArena

PAGE, PAGES, SMALL = 96 * 64, 12, 96


class Memory:
    """An arena over real bytes, and what each object should read as."""

    def __init__(self) -> None:
        self.raw = bytearray(PAGE * PAGES)
        self.arena = SlabArena(PAGES, PAGE, self.move, smallest=SMALL)
        self.objects: dict[int, tuple[list[int], bytes]] = {}

    def move(self, source: int, target: int, nbytes: int) -> None:
        assert abs(source - target) >= nbytes
        self.raw[target : target + nbytes] = self.raw[source : source + nbytes]

    def put(self, name: int, payload: bytes) -> bool:
        fits = self.arena.rounded(len(payload)) <= self.arena.free_bytes
        handles = self.arena.allocate(len(payload))
        assert (handles is not None) == fits  # zero fragmentation
        if handles is None:
            return False
        position = 0
        for handle in handles:
            offset, size = self.arena.place(handle)
            part = payload[position : position + size]
            self.raw[offset : offset + len(part)] = part
            position += size
        assert position >= len(payload)
        self.objects[name] = handles, payload
        return True

    def read(self, name: int) -> bytes:
        handles, payload = self.objects[name]
        found = b""
        for handle in handles:
            offset, size = self.arena.place(handle)
            found += self.raw[offset : offset + size]
        return found[: len(payload)]


def exercise(operations: int, seed: int, every: int) -> Memory:
    draw, memory = random.Random(seed), Memory()
    for step in range(operations):
        # Phases of large and of small objects: what calcifies a slab without a mover.
        largest = PAGE * 2 if step // 400 % 2 else SMALL * 3
        payload = draw.randbytes(draw.randrange(1, largest))
        while not memory.put(step, payload):
            victim = draw.choice(list(memory.objects))
            assert memory.read(victim) == memory.objects[victim][1]
            memory.arena.release(memory.objects.pop(victim)[0])
        if step % every == 0:
            memory.arena.check()
            for name, (_, payload) in memory.objects.items():
                assert memory.read(name) == payload
    return memory


def test_random_objects_keep_their_bytes_and_no_byte_is_lost() -> None:
    memory = exercise(6000, seed=1, every=50)
    assert memory.arena.moved_bytes > 0
    for handles, _ in memory.objects.values():
        memory.arena.release(handles)
    memory.arena.check()
    assert memory.arena.free_bytes == PAGE * PAGES
    whole = memory.arena.allocate(PAGE * PAGES)
    assert whole is not None
    assert len(whole) == PAGES


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_random_objects_long(seed: int) -> None:
    exercise(100_000, seed, every=1000)


def test_the_last_scattered_bytes_can_be_used() -> None:
    memory = Memory()
    small = [memory.arena.allocate(SMALL) for _ in range(PAGE * PAGES // SMALL)]
    # One hole in every page: together they are one page.
    per_page = PAGE // SMALL
    assert per_page == 64
    for index in range(0, len(small), PAGES):
        handles = small[index]
        assert handles is not None
        memory.arena.release(handles)
    assert memory.arena.free_bytes == PAGE
    page = memory.arena.allocate(PAGE)
    assert page is not None
    assert len(page) == 1
    memory.arena.check()


def test_what_does_not_fit_changes_nothing() -> None:
    memory = Memory()
    assert memory.arena.allocate(PAGE * PAGES + 1) is None
    assert memory.arena.free_bytes == PAGE * PAGES
