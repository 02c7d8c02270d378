"""Two synthetic checkpoints and the reference implementation on the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Glm4vForConditionalGeneration

from autoglm.model.glm4v import Glm4vModel
from autoglm.model.loading import load_checkpoint
from autoglm.model.synthetic import synthetic_config, write_weights

IMAGE = 8150
TOKEN_IDS: Mapping[str, int] = {
    name: IMAGE + i
    for i, name in enumerate(
        (
            "<|image|>",
            "<|video|>",
            "<|begin_of_image|>",
            "<|end_of_image|>",
            "<|begin_of_video|>",
            "<|end_of_video|>",
        )
    )
}
STOPS = (8129, 8130)


def config_of(size: str, **changes: Any) -> dict[str, Any]:
    """A ``config.json`` for tests."""
    return synthetic_config(size, TOKEN_IDS, STOPS) | changes


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint in several shards."""
    directory = tmp_path_factory.mktemp("tiny")
    write_weights(directory, config_of("tiny"), max_shard_bytes=4_000_000)
    return directory


@pytest.fixture(scope="session")
def model(tiny: Path) -> Glm4vModel:
    """Ours, in fp32."""
    loaded = load_checkpoint(tiny, dtype=torch.float32)
    assert isinstance(loaded, Glm4vModel)
    return loaded


@pytest.fixture(scope="session")
def reference(tiny: Path) -> Glm4vForConditionalGeneration:
    """Theirs, in fp32."""
    return Glm4vForConditionalGeneration.from_pretrained(tiny, dtype=torch.float32).eval()
