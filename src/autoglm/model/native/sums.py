"""Sums over the ranks in the middle of a step of the kernels."""

from __future__ import annotations

import ctypes
from ctypes import CFUNCTYPE, c_float, c_int, c_uint64, c_void_p

import torch

from autoglm.parallel.collectives import Communicator

_SUM = CFUNCTYPE(c_int, c_void_p, c_void_p, c_uint64, c_int)
_RAISED = 1


class RankSums:
    """``sum_t`` of ``csrc/decoder.h`` for a communicator: its own C function, or its :meth:`all_reduce` called back.

    Attributes:
        function, group: addresses for ``model_t``; valid for as long as this lives.
        in_c: whether no Python runs within a step. Then a row's sums do not depend on the rows beside it.
    """

    def __init__(self, comm: Communicator) -> None:
        self._comm = comm
        self._error: Exception | None = None
        self._own = comm.c_sum()
        self.in_c = self._own is not None
        if self._own is not None:
            self.function, self.group = self._own.function, self._own.group
            return
        self._callback = _SUM(self._sum)
        self.function, self.group = ctypes.cast(self._callback, c_void_p).value or 0, 0

    def check(self, status: int) -> None:
        """Raise what made a step fail."""
        error, self._error = self._error, None
        if error is not None:
            raise error
        if status and self._own is not None:
            self._own.check(status)

    def _sum(self, group: int | None, address: int, count: int, kind: int) -> int:  # noqa: ARG002 - what C passes
        try:
            data = torch.frombuffer((c_float * count).from_address(address), dtype=torch.float32)
            found = self._comm.all_reduce(data)
            if found.data_ptr() != address:
                data.copy_(found)
        except Exception as error:  # C cannot raise it: check() does
            self._error = error
            return _RAISED
        return 0
