"""Decode steps on static buffers give the answers of ordinary steps: padded and drafted, in both layouts."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autoglm.cache import BlockTable
from autoglm.engine.row_buffers import RowBuffers
from autoglm.engine.static_decode import StaticDecode, row_sizes
from autoglm.messages import ChatMessage, SamplingParams
from autoglm.model.paged import gather
from tests.engine.harness import Driver, engine_of, screen, user

PENALISED = SamplingParams(temperature=0.0, frequency_penalty=0.2, max_tokens=6, ignore_eos=True)
REQUESTS = [
    [user("Hi")],
    [user(screen(1), "open the shop")],
    [user(screen(1), "and", screen(2, 56, 224), "compare")],
    [user(screen(4), "look"), ChatMessage("assistant", "done"), user("go on")],
]


def driver_of(folder: Path, graphs: str, **changes: Any) -> Driver:
    return Driver(engine_of(folder, native_decode=False, decode_graphs=graphs, max_batch_tokens=64, **changes))


def static_of(driver: Driver) -> StaticDecode:
    static = driver.engine.runner._decode
    assert isinstance(static, StaticDecode)
    return static


def answers(driver: Driver) -> list[list[int]]:
    ids = [driver.submit(messages, PENALISED) for messages in REQUESTS[:3]]  # three rows: padded to four
    driver.drain()
    return [driver.results[request_id, 0].tokens for request_id in ids]


def test_a_batch_on_and_off(folder: Path) -> None:
    on, off = driver_of(folder, "eager"), driver_of(folder, "off")
    static = static_of(on)
    differences: list[float] = []
    rows: list[int] = []
    compute = static.compute

    def compared() -> Tensor:
        assert static._step is not None
        chunks = static._step[1]
        found = compute()
        # The same step again: it writes the KV it finds there.
        expected = on.engine.runner._run_modules(chunks)
        differences.append(float((found - expected).abs().max()))
        rows.append(sum(chunk.count for chunk in chunks))
        return found

    static.compute = compared  # type: ignore[method-assign]
    assert answers(on) == answers(off)
    assert max(differences) < 1e-4
    assert any(count not in static.sizes for count in rows), rows  # some were padded
    assert off.engine.runner._decode is None
    assert not static.recordings.refused


def test_no_room_for_recordings_leaves_ordinary_steps(checkpoint: Path) -> None:
    on, off = driver_of(checkpoint, "eager", graph_bytes=0), driver_of(checkpoint, "off")
    assert on.ask(REQUESTS[0], PENALISED).tokens == off.ask(REQUESTS[0], PENALISED).tokens
    assert static_of(on).recordings.refused
    assert len(static_of(on).recordings) == 0


@pytest.mark.parametrize("most", [1, 2, 5, 32, 35])
def test_sizes_cover_all_rows(most: int) -> None:
    sizes = row_sizes(most)
    assert sizes == sorted(set(sizes))
    assert sizes[0] == 1
    assert sizes[-1] == most
    assert all(b <= 2 * a for a, b in pairwise(sizes))


def test_buffers_say_what_was_put_whatever_was_there_before() -> None:
    buffers = RowBuffers(4, 6, 4, 9, torch.device("cpu"))
    long, short = BlockTable("", [3, 1, 5]), BlockTable("", [2])

    def sent(rows: int) -> tuple[list[int], list[int], list[list[int]], list[int]]:
        inputs = buffers.inputs(rows, 3, gather)
        paged = inputs.paged
        return inputs.ids.tolist(), inputs.slots.tolist(), paged.tables.tolist(), paged.lengths.tolist()

    buffers.put(0, 7, (8, 8, 8), 9, long)
    buffers.put(1, 6, (2, 3, 4), 2, short)
    buffers.send(2, 4)
    ids, slots, tables, lengths = sent(4)
    assert ids == [7, 6, 0, 0]
    assert slots == [20, 9, 36, 36]  # token 8 is the first of block 5; padding writes to the scratch block
    assert [tables[0], tables[1][:1], *tables[2:]] == [[3, 1, 5], [2], [9, 9, 9], [9, 9, 9]]
    assert lengths == [9, 2, 1, 1]
    assert buffers.inputs(2, 3, gather).positions.tolist() == [[8, 2], [8, 3], [8, 4]]
    # The first has ended, the second moved up and has another block.
    short.blocks.append(8)
    buffers.put(0, 5, (5, 5, 5), 6, short)
    buffers.send(1, 2)
    ids, slots, tables, lengths = sent(2)
    assert (ids, slots, lengths) == ([5, 0], [33, 36], [6, 1])
    assert tables[0][:2] == [2, 8]
    assert tables[1] == [9, 9, 9]
