"""Names of tokens whose bytes are no whole characters."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from autoglm.prompt.synthetic import write_tokenizer
from benchmarks.convert_gguf import printable_name


@pytest.mark.parametrize("token", ["a", "Ġthe", "Ċ", "æī", "æīĵ", "<|image|>", "中"])
def test_only_tokens_that_are_not_text_get_another_name(token: str) -> None:
    broken = token == "æī"
    assert printable_name(token, 7) == ("[bytes-7]" if broken else token)


def test_agrees_with_the_tokenizer_on_every_token_and_keeps_names_unique(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    vocabulary = tokenizer.get_vocab()
    names = {index: printable_name(token, index) for token, index in vocabulary.items()}
    assert len(set(names.values())) == len(vocabulary)
    renamed = {index for token, index in vocabulary.items() if names[index] != token}
    broken = {i for i in vocabulary.values() if "\ufffd" in tokenizer.decode([i], skip_special_tokens=False)}
    assert renamed == broken
    assert renamed
