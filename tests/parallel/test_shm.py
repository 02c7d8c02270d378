"""Collectives over shared memory on two and four processes; more ranks than cores; a rank that dies, one that hangs."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autoglm.errors import InvalidInputError, RankLostError
from autoglm.parallel.collectives import ALONE, Communicator
from autoglm.parallel.shm import CAPACITY, SharedMemoryCommunicator, open_shared_memory
from tests.parallel.ranks import on_ranks, ranks

SIZES = (1, 7, 2048, 8192, 8193, CAPACITY // 4, CAPACITY // 4 + 3, 3 * CAPACITY // 4 + 1)


def data(rank: int, count: int, kind: torch.dtype) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(1000 * rank + count)).to(kind)


def opened(inner: Communicator, timeout: float = 20.0) -> SharedMemoryCommunicator:
    found = open_shared_memory(inner, timeout=timeout)
    assert isinstance(found, SharedMemoryCommunicator)
    return found


def sums(inner: Communicator) -> list[Tensor]:
    group = opened(inner)
    found = [
        group.all_reduce(data(group.rank, count, kind)) for kind in (torch.float32, torch.bfloat16) for count in SIZES
    ]
    group.close()
    return found


@pytest.mark.parametrize("size", [2, 4])
def test_sums_of_every_size(size: int) -> None:
    found = on_ranks(sums, size)
    cases = [(kind, count) for kind in (torch.float32, torch.bfloat16) for count in SIZES]
    for i, (kind, count) in enumerate(cases):
        expected = torch.zeros(count)
        for rank in range(size):
            expected += data(rank, count, kind).float()
        assert torch.equal(found[0][i], expected.to(kind)), (kind, count)
        for other in found[1:]:
            assert torch.equal(other[i], found[0][i]), "ranks hold different bits"


def the_rest(inner: Communicator) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    group = opened(inner)
    wide = group.all_gather(torch.full((2, CAPACITY // 8), group.rank, dtype=torch.int64), 1)
    rows = group.all_gather(torch.full((1, 3), group.rank, dtype=torch.float64), 0)
    at_root = group.gather(torch.full((1, 3), group.rank, dtype=torch.float64), 1, 0)
    assert torch.equal(at_root, rows if group.rank == 1 else rows[:1])
    sent = group.broadcast(torch.full((CAPACITY + 5,), group.rank, dtype=torch.uint8), 1)
    doubles = group.all_reduce(torch.full((5,), 1.5, dtype=torch.float64))  # a type that goes by the group inside
    group.barrier()
    other = 1 - group.rank
    received = torch.empty(3)
    handle = group.irecv(received, other)
    group.send(torch.full((3,), float(group.rank)), other)
    handle.wait()
    group.close()
    return wide, rows, sent, doubles, received


def test_gather_broadcast_and_what_is_passed_on() -> None:
    for rank, (wide, rows, sent, doubles, received) in enumerate(on_ranks(the_rest, 2)):
        assert wide.shape == (2, CAPACITY // 4)
        assert torch.equal(wide[1], torch.arange(2).repeat_interleave(CAPACITY // 8))
        assert torch.equal(rows, torch.tensor([[0.0] * 3, [1.0] * 3], dtype=torch.float64))
        assert bool((sent == 1).all())
        assert torch.equal(doubles, torch.full((5,), 3.0, dtype=torch.float64))
        assert torch.equal(received, torch.full((3,), float(1 - rank)))


def many_in_a_row(inner: Communicator) -> tuple[float, float, bool]:
    """A sum that would show a slot used too early; CPU and wall seconds while one rank is late."""
    group = opened(inner)
    total = torch.zeros(64)
    for step in range(300):
        total += group.all_reduce(torch.full((64,), float(step % 7 + group.rank)))
    if group.rank == 0:
        time.sleep(1.0)
    started, cpu = time.perf_counter(), time.process_time()
    group.barrier()
    waited, burnt = time.perf_counter() - started, time.process_time() - cpu
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if "/dev/shm/autoglm-" in line]
    group.close()
    expected = sum(group.size * (step % 7) + sum(range(group.size)) for step in range(300))
    assert torch.equal(total, torch.full((64,), float(expected)))
    return waited, burnt, bool(mapped) and all(line.endswith("(deleted)") for line in mapped)


def test_many_messages_no_burning_while_waiting_and_nothing_left_behind() -> None:
    for waited, burnt, unnamed in on_ranks(many_in_a_row, 4):
        assert burnt < 0.5 * max(waited, 0.1), "a rank burns its core while it waits"
        assert unnamed, "the memory still has a name"


def sum_for_ever(group: Communicator) -> None:
    while True:
        group.all_reduce(torch.ones(8))
        time.sleep(0.001)


def until_it_fails(inner: Communicator, say: Callable[[Any], None], timeout: float) -> tuple[str, Any]:
    group = opened(inner, timeout)
    group.all_reduce(torch.ones(8))
    say("going")
    with pytest.raises(RankLostError) as caught:
        sum_for_ever(group)
    with pytest.raises(RankLostError):  # a spent group stays so
        group.all_reduce(torch.ones(8))
    assert caught.value.retryable
    return str(caught.value), caught.value.value


@pytest.mark.parametrize(
    ("number", "timeout", "words"), [(signal.SIGKILL, 30.0, "died"), (signal.SIGSTOP, 2.0, "time limit")]
)
@pytest.mark.parametrize("size", [2, 4])
def test_a_lost_rank_is_named_by_all_others(size: int, number: signal.Signals, timeout: float, words: str) -> None:
    with ranks(until_it_fails, size, timeout) as running:
        for rank in running:
            assert rank.result() == "going"
        running[1].signal(number)
        found = [rank.result() for i, rank in enumerate(running) if i != 1]
    assert any(words in text for text, _ in found)
    assert {culprit for _, culprit in found} == {1}


def disagree(inner: Communicator) -> str:
    group = opened(inner)
    with pytest.raises((InvalidInputError, RankLostError)) as caught:
        group.all_reduce(torch.ones(4 + group.rank))
    return type(caught.value).__name__


def test_ranks_that_disagree_are_stopped() -> None:
    assert "InvalidInputError" in on_ranks(disagree, 2)


def test_one_rank_needs_no_memory() -> None:
    assert open_shared_memory(ALONE) is ALONE
