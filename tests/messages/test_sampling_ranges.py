"""Every range of the sampling parameters, at and beyond its ends."""

from __future__ import annotations

from typing import Any

import pytest

from autoglm.errors import InvalidInputError
from autoglm.messages import SamplingParams

RANGES: dict[str, tuple[float, float]] = {
    "max_tokens": (1, 2**31 - 1),
    "min_tokens": (0, 2**31 - 1),
    "temperature": (0, 2),
    "top_p": (0, 1),
    "top_k": (0, 2**31 - 1),
    "min_p": (0, 1),
    "seed": (-(2**63), 2**63 - 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "repetition_penalty": (0.01, 10),
    "logprobs": (0, 20),
}


def refused(**fields: Any) -> str | None:
    with pytest.raises(InvalidInputError) as caught:
        SamplingParams(**fields).validate()
    return caught.value.field


@pytest.mark.parametrize("name", RANGES)
def test_ends_are_in_and_beyond_is_out(name: str) -> None:
    low, high = RANGES[name]
    for value in (low, high):
        SamplingParams(**{name: value}).validate()
    # The last is too large for a float: comparing must not overflow.
    for beyond in (low - 1, high + 1, float("nan"), float("inf"), -float("inf"), 10**400, -(10**400)):
        assert refused(**{name: beyond}) == name


def test_none_means_off() -> None:
    SamplingParams(max_tokens=None, seed=None, logprobs=None).validate()


@pytest.mark.parametrize("stop", [("",), ("x" * 257,), ("a",) * 17])
def test_stop_strings(stop: tuple[str, ...]) -> None:
    SamplingParams(stop=("x" * 256,) * 16).validate()
    assert refused(stop=stop) == "stop"


@pytest.mark.parametrize("bias", [100.5, -101, float("nan"), float("inf"), pytest.param(10**400, id="huge")])
def test_logit_bias(bias: float) -> None:
    SamplingParams(logit_bias={1: 100.0, 2: -100.0}).validate()
    assert refused(logit_bias={1: bias}) == "logit_bias"
