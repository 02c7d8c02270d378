"""One tiny checkpoint for all suites, no time limit for random tests, which tests want the whole machine to themselves,
and reports that a process can send on."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from autoglm.synthetic import make_checkpoint

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

if not torch.cuda.is_available():
    # Before anything imports Triton: its kernels then run on the CPU, one program after the other.
    os.environ["TRITON_INTERPRET"] = "1"

_ROOT = Path(__file__).parent
WHOLE_MACHINE = ("engine/pipeline", "engine/ranks", "parallel")
"""Suites of several processes that wait for each other by spinning: beside others' work they starve and time out."""


@pytest.hookimpl(tryfirst=True)  # before tests are selected by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of :data:`WHOLE_MACHINE`."""
    suites = [_ROOT / suite for suite in WHOLE_MACHINE]
    for item in items:
        if any(item.path.is_relative_to(suite) for suite in suites):
            item.add_marker(pytest.mark.whole_machine)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint in the published layout, tokenizer and all."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"), "tiny")


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Random texts hold surrogates, and a report that shows one could not be sent: it would end the whole run."""
    return _sendable((yield))


def _sendable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_sendable(key): _sendable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_sendable(item) for item in value)
    return value
