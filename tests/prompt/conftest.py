"""A synthetic checkpoint directory (no weights), and encoded images."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from autoglm.prompt import PromptBuilder, Tokenizer
from autoglm.prompt.synthetic import write_tokenizer


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only; tests that change files use ``checkpoint_copy``."""
    directory = tmp_path_factory.mktemp("checkpoint")
    ids = write_tokenizer(directory, vocab_size=4096)
    config = {
        "image_token_id": ids["<|image|>"],
        "image_start_token_id": ids["<|begin_of_image|>"],
        "image_end_token_id": ids["<|end_of_image|>"],
    }
    (directory / "config.json").write_text(json.dumps(config))
    return directory


@pytest.fixture
def checkpoint_copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))


@pytest.fixture(scope="session")
def tokenizer(checkpoint: Path) -> Tokenizer:
    return Tokenizer.from_directory(checkpoint)


@pytest.fixture(scope="session")
def builder(checkpoint: Path) -> PromptBuilder:
    return PromptBuilder.from_checkpoint(checkpoint, "glm4v")


@pytest.fixture(scope="session")
def with_template(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], PromptBuilder]:
    """A builder over the same checkpoint with another chat template."""

    def make(source: str) -> PromptBuilder:
        directory = Path(shutil.copytree(checkpoint, tmp_path_factory.mktemp("variant") / "checkpoint"))
        (directory / "chat_template.jinja").write_text(source)
        return PromptBuilder.from_checkpoint(directory, "glm4v")

    return make
