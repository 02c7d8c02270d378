"""The arg-max of the kernels: the first of equals, after what is taken off some numbers."""

from __future__ import annotations

import numpy as np
import pytest

from autoglm.model.native.library import argmax_minus


@pytest.mark.parametrize("count", [1, 3, 15, 16, 17, 65, 1023, 1024, 1025, 4099, 8192])
def test_first_of_the_largest_less_what_is_taken_off(count: int) -> None:
    random = np.random.default_rng(count)
    for _ in range(20):
        # Few different values: the largest stands in several places.
        logits = random.integers(-30, 30, count).astype(np.float32)
        before = logits.copy()
        ids = random.permutation(count)[: count // 3].astype(np.int64)
        amounts = random.integers(-9, 9, len(ids)).astype(np.float32)
        found = argmax_minus(logits.ctypes.data, count, ids.ctypes.data, amounts.ctypes.data, len(ids))
        assert np.array_equal(logits, before)
        logits[ids] -= amounts
        assert found == int(logits.argmax())
