"""Sums that compiled code calls: numbers are summed in place, and what a communicator raises comes out of the step."""

from __future__ import annotations

from ctypes import CFUNCTYPE, c_int, c_uint64, c_void_p

import pytest
import torch
from torch import Tensor

from autoglm.errors import RankLostError
from autoglm.model.native.sums import RankSums
from autoglm.parallel.collectives import Alone


class Two(Alone):
    """A rank whose peer has the same numbers, until it is lost; ``copy``: gives the sum in memory of its own."""

    size = 2

    def __init__(self, *, copy: bool) -> None:
        self.copy = copy
        self.lost = False

    def all_reduce(self, tensor: Tensor) -> Tensor:
        if self.lost:
            raise RankLostError("rank 1 died", field="rank", value=1)
        return tensor * 2 if self.copy else tensor.mul_(2)


def called(sums: RankSums, data: Tensor) -> int:
    """As ``sum_t`` of ``csrc/decoder.h`` is called."""
    function = CFUNCTYPE(c_int, c_void_p, c_void_p, c_uint64, c_int)(sums.function)
    return int(function(sums.group, data.data_ptr(), data.numel(), 0))


@pytest.mark.parametrize("copy", [False, True])
def test_numbers_are_summed_where_they_are(copy: bool) -> None:
    sums, data = RankSums(Two(copy=copy)), torch.arange(5.0)
    status = called(sums, data)
    sums.check(status)
    assert data.tolist() == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert not sums.in_c


def test_what_a_sum_raises_is_raised_once_the_step_is_over() -> None:
    comm = Two(copy=False)
    sums, data = RankSums(comm), torch.ones(3)
    comm.lost = True
    status = called(sums, data)
    assert status != 0
    with pytest.raises(RankLostError, match="rank 1 died"):
        sums.check(status)
    comm.lost = False
    sums.check(called(sums, data))  # nothing is left of it
    assert data.tolist() == [2.0, 2.0, 2.0]
