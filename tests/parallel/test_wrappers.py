"""What stands in front of a group: grouping, overlap, two levels, codecs. Against plain sums, on real ranks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from autoglm.errors import InvalidInputError
from autoglm.parallel.codecs.choose import FORMS, SMALLEST, LinkSpeed, check_form, choose, crossover, predicted
from autoglm.parallel.codecs.codes import INT4, INT8, Format
from autoglm.parallel.codecs.kernels import Kernels
from autoglm.parallel.codecs.two_step import TwoStepSum, pieces, simulated
from autoglm.parallel.collectives import ALONE, Communicator, TorchCommunicator
from autoglm.parallel.compressed import CompressedCommunicator, scales_of
from autoglm.parallel.grouping import all_reduce_grouped
from autoglm.parallel.hierarchical import HierarchicalCommunicator, open_by_host
from autoglm.parallel.overlap import BackgroundCommunicator, row_parallel_overlapped
from autoglm.parallel.shm import SharedMemoryCommunicator
from tests.parallel.ranks import on_ranks

SLOW = LinkSpeed(2, 12.5e6, 4e-4, 2e-3, 1e-9)
COUNTS = (1, 127, 128, 129, 1000, 70_000)


def data(rank: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(rank))


def coded_sums(group: Communicator) -> list[tuple[Tensor, Tensor]]:
    """Each sum by the codec, beside what the mathematics in one process gives."""
    found = []
    for form in (INT8, INT4, Format(8, 128, torch.arange(1, 101) / 10.0)):
        two_step = TwoStepSum(group, Kernels(form))
        for count in COUNTS:
            mine = two_step(data(group.rank, count))
            partials = [data(rank, count) for rank in range(group.size)]
            found.append((mine, simulated(form, partials)))
    return found


@pytest.mark.parametrize("size", [2, 3])
def test_coded_sums_are_the_simulated_ones_and_equal_on_all_ranks(size: int) -> None:
    for results in zip(*on_ranks(coded_sums, size), strict=True):
        for mine, expected in results:
            assert torch.equal(mine, expected)


@given(st.integers(1, 3000), st.sampled_from([2, 32, 128]), st.integers(1, 5), st.integers(1, 6))
def test_pieces_cover_a_message_once_in_whole_groups(count: int, group: int, size: int, blocks: int) -> None:
    plan = pieces(count, group, size, blocks)
    assert [len(part) for part in plan] == [blocks] * size
    flat = [piece for part in plan for piece in part]
    assert [i for piece in flat for i in range(piece.first, piece.last)] == list(range(count))
    assert all(piece.first % group == 0 for piece in flat if len(piece))


@pytest.mark.parametrize(("form", "limit"), [(INT8, 0.01), (INT4, 0.15)])
def test_error_of_a_coded_sum_of_ordinary_values(form: Format, limit: float) -> None:
    partials = [data(rank, 100_000) for rank in range(2)]
    exact = torch.stack(partials).double().sum(0)
    assert (simulated(form, partials) - exact).norm() / exact.norm() < limit


def compressed(group: Communicator) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for form in FORMS:
        communicator = CompressedCommunicator(group, form, link=SLOW)
        exact = torch.stack([data(rank, 300, 256) for rank in range(group.size)]).sum(0)
        sums = [communicator.all_reduce(data(group.rank, 300, 256)) for _ in range(6)]
        small = communicator.all_reduce(data(group.rank, 4, 256))
        halves = communicator.all_reduce(data(group.rank, 300, 256).bfloat16())
        found[form] = {
            "error": float((sums[-1] - exact).norm() / exact.norm()),
            "sums": sums[-1],
            "small": torch.equal(small, torch.stack([data(rank, 4, 256) for rank in range(group.size)]).sum(0)),
            "type": halves.dtype,
            "messages": communicator.stats.messages,
            "ratio": communicator.stats.plain_bytes / communicator.stats.sent_bytes,
        }
    measured = CompressedCommunicator(group, "int4").link
    assert measured is not None
    found["measured"] = (measured.bytes_per_second, measured.exact_floor, measured.code_seconds)
    return found


def test_a_compressed_group_rounds_only_what_was_allowed_and_only_large_messages() -> None:
    first, second = on_ranks(compressed, 2)
    limits = {"exact": 1e-6, "bf16": 0.005, "int8": 0.01, "int4": 0.15}
    for form in FORMS:
        assert first[form]["error"] < limits[form]
        assert torch.equal(first[form]["sums"], second[form]["sums"])
        assert first[form]["small"]
        assert first[form]["type"] == torch.bfloat16
    assert first["exact"]["messages"] == {"exact": 8}
    assert first["bf16"]["messages"] == {"bf16": 6, "exact": 2}
    assert first["int8"]["messages"] == {"int8": 7, "exact": 1}
    assert first["int8"]["ratio"] > 3.5
    assert first["measured"] == second["measured"]
    assert all(number > 0 for number in first["measured"])


def test_lossy_forms_are_off_by_default() -> None:
    assert CompressedCommunicator(ALONE).allowed == "exact"
    for size in (2**12, 2**20, 2**28):
        assert choose(SLOW, size) == "exact"


@given(
    st.integers(2, 16),
    st.floats(1e6, 1e11),
    st.tuples(st.floats(1e-6, 0.1), st.floats(1e-6, 0.1), st.floats(1e-11, 1e-7)),
    st.integers(1, 2**30),
    st.sampled_from(FORMS),
)
def test_what_is_chosen(size: int, speed: float, costs: tuple[float, float, float], nbytes: int, form: Any) -> None:
    link = LinkSpeed(size, speed, *costs)
    chosen = choose(link, nbytes, form)
    assert FORMS.index(chosen) <= FORMS.index(form)
    assert predicted(link, nbytes, chosen) <= predicted(link, nbytes, "exact")
    if nbytes < SMALLEST:
        assert chosen == "exact"


def test_a_slow_link_calls_for_a_codec_and_a_fast_one_does_not() -> None:
    assert choose(SLOW, 2**23, "int8") == "int8"
    assert choose(SLOW, 2**23, "int4") == "int4"
    fast = LinkSpeed(2, 50e9, 1e-5, 2e-3, 1e-9)
    assert choose(fast, 2**23, "int4") in ("exact", "bf16")
    assert crossover(fast, "int8") is None
    found = crossover(SLOW, "int8")
    assert found is not None
    assert choose(SLOW, found // 2, "int8") != "int8"


def test_words_for_forms() -> None:
    assert check_form("int8") == "int8"
    with pytest.raises(InvalidInputError):
        check_form("int3")


def test_scales_of_silent_and_of_broken_channels() -> None:
    assert torch.equal(scales_of(torch.zeros(4, dtype=torch.float64)), torch.ones(4))
    for odd in (0.0, 1e6, 1e300, torch.inf, torch.nan):
        scales = scales_of(torch.tensor([odd, 1.0, 2.0], dtype=torch.float64))
        assert bool(((scales > 0) & scales.isfinite()).all())


def grouped_and_overlapped(group: Communicator) -> None:
    shapes = [(3,), (2, 5), (), (4000,), (1,)]
    kinds = [torch.float32, torch.float32, torch.float32, torch.float32, torch.int64]
    tensors = [
        torch.full(shape, i + group.rank).to(kind) for i, (shape, kind) in enumerate(zip(shapes, kinds, strict=True))
    ]
    messages: list[int] = []

    class Counting(TorchCommunicator):
        def all_reduce(self, tensor: Tensor) -> Tensor:
            messages.append(tensor.numel())
            return super().all_reduce(tensor)

    assert isinstance(group, TorchCommunicator)
    sums = all_reduce_grouped(Counting(group.group), tensors, max_bytes=1024)
    assert messages == [14, 4000, 1]
    for i, (total, shape, kind) in enumerate(zip(sums, shapes, kinds, strict=True)):
        expected = sum(i + rank for rank in range(group.size))
        assert torch.equal(total, torch.full(shape, expected).to(kind))

    inputs, weight = data(group.rank, 37, 16), data(group.rank + 10, 24, 16)
    whole = group.all_reduce(inputs @ weight.T)
    background = BackgroundCommunicator(group, depth=2)
    for communicator in (group, background):
        for chunks in (1, 2, 5, 100):
            found = row_parallel_overlapped(inputs, weight, communicator, chunks)
            assert torch.allclose(found, whole, atol=1e-5)
    gathered = background.all_gather(torch.tensor([background.rank]))
    assert gathered.tolist() == list(range(group.size))


def test_grouping_and_overlap() -> None:
    on_ranks(grouped_and_overlapped, 2)


def two_levels(group: Communicator, hosts: list[str]) -> tuple[str, str, Tensor, Tensor]:
    assert isinstance(group, TorchCommunicator)
    found = open_by_host(group, host=hosts[group.rank])
    inside = type(found.inside).__name__ if isinstance(found, HierarchicalCommunicator) else ""
    total = found.all_reduce(data(group.rank, 500))
    found.barrier()
    return type(found).__name__, inside, total, found.all_gather(torch.tensor([group.rank]))


@pytest.mark.parametrize("hosts", [["a", "b", "a", "b"], ["a", "a", "a", "b"]])
def test_two_levels(hosts: list[str]) -> None:
    found = on_ranks(two_levels, 4, hosts)
    expected = sum(data(rank, 500) for rank in range(4))
    for rank, (kind, inside, total, gathered) in enumerate(found):
        assert kind == "HierarchicalCommunicator"
        alone = hosts.count(hosts[rank]) == 1
        assert inside == (TorchCommunicator if alone else SharedMemoryCommunicator).__name__
        assert torch.allclose(total, expected, atol=1e-5)
        assert torch.equal(total, found[0][2])
        assert gathered.tolist() == [0, 1, 2, 3]


def found_out(group: Communicator) -> str:
    assert isinstance(group, TorchCommunicator)
    return type(open_by_host(group)).__name__


def test_one_host_is_found_out() -> None:
    assert on_ranks(found_out, 2) == ["SharedMemoryCommunicator"] * 2
