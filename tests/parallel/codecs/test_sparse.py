"""Screens as differences and KV blocks a peer lacks: exact whatever comes, and small where little changed."""

from __future__ import annotations

import io
import random
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from autoglm.agent.devices.simulated import SimulatedPhone
from autoglm.agent.tasks.episodes import oracle_policy, run_episode
from autoglm.agent.tasks.splits import SPLITS
from autoglm.agent.tasks.starts import new_start
from autoglm.errors import InvalidInputError
from autoglm.parallel.codecs.blocks import decode_blocks, encode_blocks, lacking
from autoglm.parallel.codecs.screens import Pixels, changed_patches, decode_screen, encode_screen


@st.composite
def screens(draw: st.DrawFn) -> tuple[Pixels, Pixels | None]:
    """A screen and one before it: flat, noisy, or a little changed; sometimes none, or of another size."""
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    noise = np.random.default_rng(draw(st.integers(0, 2**32)))
    new = np.full((height, width, 3), draw(st.integers(0, 255)), np.uint8)
    if draw(st.booleans()):
        new = noise.integers(0, 256, new.shape, np.uint8)
    old: Pixels | None = new.copy()
    assert old is not None
    for _ in range(draw(st.integers(0, 6))):
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        old[top : top + draw(st.integers(1, 40)), left : left + draw(st.integers(1, 40))] += np.uint8(1)
    kind = draw(st.sampled_from(["same size"] * 4 + ["none", "another size"]))
    if kind != "same size":
        old = None if kind == "none" else old[:, : width // 2]
    return new, old


@given(screens(), st.sampled_from([1, 4, 14, 28]))
@settings(max_examples=150, deadline=None)
def test_screens_come_back_exactly(pair: tuple[Pixels, Pixels | None], patch: int) -> None:
    new, old = pair
    assert np.array_equal(decode_screen(encode_screen(new, old, patch), old), new)


def test_consecutive_phone_screens() -> None:
    rng = random.Random("screens")
    coded = png = raw = 0
    for _ in range(3):
        task, phone = new_start(rng, SPLITS["held_out_layouts"])
        seen: list[Pixels] = []
        act = oracle_policy(task)

        def look(instruction: str, shown: SimulatedPhone, app: str, last: str, act=act, seen=seen):  # type: ignore[no-untyped-def]
            seen.append(np.asarray(shown.render()))
            return act(instruction, shown, app, last)

        run_episode(task, phone, look)
        for old, new in pairwise(seen):
            message = encode_screen(new, old)
            assert np.array_equal(decode_screen(message, old), new)
            picture = io.BytesIO()
            Image.fromarray(new).save(picture, "PNG", optimize=True)
            coded, png = coded + len(message), png + len(picture.getvalue())
            raw += int(changed_patches(new, old).sum()) * 14 * 14 * 3
    assert 5 * coded < raw
    assert coded < png


def test_a_screen_against_the_wrong_one_is_refused() -> None:
    new = np.zeros((40, 40, 3), np.uint8)
    old, wrong = new.copy(), new.copy()
    old[:5] = 1
    wrong[20:] = 9
    message = encode_screen(new, old)
    for bad in (wrong, wrong[:20], None):
        with pytest.raises(InvalidInputError):
            decode_screen(message, bad)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_what_is_no_screen_is_refused(message: bytes) -> None:
    for start in (b"", b"AGS1"):
        with pytest.raises(InvalidInputError):
            decode_screen(start + message, np.zeros((30, 30, 3), np.uint8))


@given(st.integers(0, 10_000), st.integers(1, 255), st.booleans())
@settings(max_examples=100, deadline=None)
def test_a_damaged_screen_is_never_a_wrong_one(place: int, flip: int, cut: bool) -> None:
    new = np.arange(2700, dtype=np.uint32).astype(np.uint8).reshape(30, 30, 3)
    old = np.zeros_like(new)
    message = bytearray(encode_screen(new, old))
    place %= len(message)
    message[place] ^= flip
    try:
        found = decode_screen(bytes(message[:place] if cut else message), old)
    except InvalidInputError:
        return
    assert np.array_equal(found, new)


def test_sizes_out_of_bounds_are_refused() -> None:
    for shape in ((3, 3), (3, 3, 4), (0, 0, 3)):
        with pytest.raises(InvalidInputError):
            encode_screen(np.zeros(shape, np.uint8))


@given(
    st.sampled_from([torch.float32, torch.bfloat16, torch.int64]),
    st.integers(0, 9),
    st.sets(st.integers(0, 8)),
    st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_blocks_that_are_lacking_come_back_exactly(dtype: torch.dtype, count: int, held: set[int], noisy: bool) -> None:
    names = [bytes([i]) * 16 for i in range(count)]
    values = torch.randn(count, 2, 3, 40) if noisy else torch.ones(count, 2, 3, 40)
    blocks = values.to(dtype)
    wanted = lacking(names, {bytes([i]) * 16 for i in held})
    assert wanted == [i for i in range(count) if i not in held]
    found = decode_blocks(encode_blocks(blocks, wanted), blocks.shape[1:], dtype)
    assert torch.equal(found, blocks[wanted])


def test_high_bytes_of_blocks_shrink_and_noise_does_not_grow() -> None:
    blocks = torch.randn(8, 16, 64, 8, generator=torch.Generator().manual_seed(0))
    assert len(encode_blocks(blocks, range(8))) < 0.95 * blocks.nbytes
    noise = torch.randint(256, (8, 4096), dtype=torch.uint8)
    assert len(encode_blocks(noise, range(8))) < noise.nbytes + 64


@pytest.mark.parametrize("cut", [0, 10, 20, -1])
def test_damaged_blocks_are_refused(cut: int) -> None:
    message = encode_blocks(torch.ones(3, 100), [0, 2])
    with pytest.raises(InvalidInputError):
        decode_blocks(message[:cut], (100,), torch.float32)
    with pytest.raises(InvalidInputError):
        decode_blocks(message, (99,), torch.float32)
