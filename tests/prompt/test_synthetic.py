from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from autoglm.errors import InvalidInputError
from autoglm.prompt.synthetic import SPECIAL_TOKENS, TEXT_TOKENS, write_tokenizer


def test_same_bytes_every_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tokenizer(tmp_path / name, vocab_size=1024)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == [
        "chat_template.jinja",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_special_tokens_follow_the_base_vocabulary(tmp_path: Path) -> None:
    ids = write_tokenizer(tmp_path)
    assert list(ids.values()) == list(range(8192 - 64, 8192 - 64 + len(SPECIAL_TOKENS)))
    added = json.loads((tmp_path / "tokenizer.json").read_text())["added_tokens"]
    assert {entry["content"] for entry in added if not entry["special"]} == TEXT_TOKENS


def test_transformers_loads_it(checkpoint: Path) -> None:
    for kind in (AutoTokenizer, PreTrainedTokenizerFast):
        loaded = kind.from_pretrained(checkpoint)
        assert loaded.eos_token == "<|endoftext|>"
        assert loaded.chat_template == (checkpoint / "chat_template.jinja").read_text()
        ids = loaded.encode("<think>x</think>", add_special_tokens=False)
        assert loaded.decode(ids, skip_special_tokens=True) == "<think>x</think>"


def test_too_small() -> None:
    with pytest.raises(InvalidInputError) as error:
        write_tokenizer("unused", vocab_size=300)
    assert (error.value.limit, error.value.value) == (320, 300)
