from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models
from transformers import AutoTokenizer

from autoglm.errors import CheckpointNotFoundError, CorruptCheckpointError, UnsupportedCheckpointError
from autoglm.prompt import Tokenizer

TEXTS = [
    "Hello, world!  def f(x):\n\treturn x\r\n\n  ",
    '打开小红书\n\n{"current_app": "小红书"}',
    '<think>思考</think><answer>do(action="Tap", element=[1,2])</answer>/nothink',
    "[gMASK]<sop><|user|>\n<|begin_of_image|><|image|><|end_of_image|>👩‍👩‍👧 é ñ 한국어 العربية",
    "",
]


@pytest.mark.parametrize("text", TEXTS)
def test_encodes_and_decodes_as_transformers(checkpoint: Path, tokenizer: Tokenizer, text: str) -> None:
    reference = AutoTokenizer.from_pretrained(checkpoint)
    ids = tokenizer.encode(text)
    assert ids == reference.encode(text, add_special_tokens=False)
    for skip in (False, True):
        assert tokenizer.decode(ids, skip_special_tokens=skip) == reference.decode(ids, skip_special_tokens=skip)


def test_special_strings_become_single_ids(tokenizer: Tokenizer) -> None:
    for token in ("[gMASK]", "<|user|>", "<think>", "</answer>", "<|image|>"):
        assert tokenizer.encode(token) == [tokenizer.token_id(token)]


def test_only_flagged_tokens_are_special(tokenizer: Tokenizer) -> None:
    specials = {tokenizer.token(i) for i in tokenizer.special_ids}
    assert {"<|endoftext|>", "<|image|>", "<|user|>"} <= specials
    assert not specials & {"<think>", "</think>", "<answer>", "</answer>", "/nothink"}


def test_named_tokens(tokenizer: Tokenizer) -> None:
    assert tokenizer.named_tokens == {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}


def test_padded_ids_give_nothing(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_bytes(tokenizer.vocab_size + 3) == b""
    assert tokenizer.token_bytes(-1) == b""
    assert tokenizer.token(-1) is None
    assert tokenizer.decode([10**6]) == ""


def test_token_text_of_a_partial_character(tokenizer: Tokenizer) -> None:
    pieces = [tokenizer.token_text(i) for i in tokenizer.encode("🦄")]
    assert len(pieces) > 1
    assert b"".join(raw for _, raw in pieces) == "🦄".encode()
    assert "\ufffd" in pieces[0][0]


def test_missing_and_corrupt_files(checkpoint_copy: Path) -> None:
    path = checkpoint_copy / "tokenizer.json"
    path.write_text(path.read_text()[:1000])
    with pytest.raises(CorruptCheckpointError) as corrupt:
        Tokenizer.from_directory(checkpoint_copy)
    assert corrupt.value.field == "tokenizer.json"
    path.unlink()
    with pytest.raises(CheckpointNotFoundError, match=r"tokenizer\.json"):
        Tokenizer.from_directory(checkpoint_copy)


def test_corrupt_config(checkpoint_copy: Path) -> None:
    (checkpoint_copy / "tokenizer_config.json").write_text("[1]")
    with pytest.raises(CorruptCheckpointError, match="tokenizer_config"):
        Tokenizer.from_directory(checkpoint_copy)


def test_tokens_declared_only_in_the_config(checkpoint_copy: Path) -> None:
    path = checkpoint_copy / "tokenizer_config.json"
    config = json.loads(path.read_text())
    size = Tokenizer.from_directory(checkpoint_copy).vocab_size
    config["added_tokens_decoder"] = {str(size): {"content": "<|late|>", "special": True}}
    path.write_text(json.dumps(config))
    late = Tokenizer.from_directory(checkpoint_copy)
    assert late.encode("a<|late|>")[-1] == size
    assert size in late.special_ids
    config["added_tokens_decoder"] = {"5": {"content": "<|late|>", "special": True}}
    path.write_text(json.dumps(config))
    with pytest.raises(CorruptCheckpointError, match="late") as error:
        Tokenizer.from_directory(checkpoint_copy)
    assert error.value.limit == 5


def test_other_decoders_are_refused() -> None:
    backend = Backend(models.BPE())
    backend.decoder = decoders.Metaspace()
    with pytest.raises(UnsupportedCheckpointError, match="Metaspace"):
        Tokenizer(backend, named_tokens={})
