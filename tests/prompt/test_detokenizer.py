from __future__ import annotations

import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from autoglm.prompt import IncrementalDetokenizer, Tokenizer
from autoglm.prompt.synthetic import write_tokenizer

SETTINGS = settings(derandomize=True, deadline=None, max_examples=150)
_cache: list[tuple[Tokenizer, object]] = []


def _tokenizers() -> tuple[Tokenizer, object]:
    if not _cache:
        with tempfile.TemporaryDirectory() as directory:
            write_tokenizer(directory, vocab_size=1024)
            _cache.append((Tokenizer.from_directory(directory), AutoTokenizer.from_pretrained(directory)))
    return _cache[0]


def _stream(tokenizer: Tokenizer, ids: list[int], skip: bool) -> tuple[list[str], str]:
    detokenizer = IncrementalDetokenizer(tokenizer, skip_special_tokens=skip)
    return [detokenizer.push(i) for i in ids], detokenizer.flush()


@SETTINGS
@given(st.lists(st.integers(0, 1100), max_size=60), st.booleans())
def test_any_ids_stream_to_the_full_decoding(ids: list[int], skip: bool) -> None:
    tokenizer, reference = _tokenizers()
    pieces, rest = _stream(tokenizer, ids, skip)
    text = "".join(pieces) + rest
    assert text == tokenizer.decode(ids, skip_special_tokens=skip)
    assert text == reference.decode(ids, skip_special_tokens=skip)  # type: ignore[attr-defined]


SCRIPTS = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from("点击搜索返回👩‍👧🏳️‍🌈🇨🇳é̂ñß한국어العربيةไทย𠮷\u200d\ufe0f"),
    ),
    max_size=40,
)


@SETTINGS
@given(SCRIPTS)
def test_no_piece_ever_holds_a_broken_character(text: str) -> None:
    tokenizer, _ = _tokenizers()
    pieces, rest = _stream(tokenizer, tokenizer.encode(text), False)
    assert "".join(pieces) == text
    assert rest == ""
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


def test_flush_reports_an_unfinished_character() -> None:
    tokenizer, _ = _tokenizers()
    ids = tokenizer.encode("a🦄")
    pieces, rest = _stream(tokenizer, ids[:-1], False)
    assert ("".join(pieces), rest) == ("a", "\ufffd")


def test_skip_drops_special_tokens_only() -> None:
    tokenizer, _ = _tokenizers()
    ids = tokenizer.encode("<think>a</think><|user|><answer>b</answer><|endoftext|>")
    assert "".join(_stream(tokenizer, ids, True)[0]) == "<think>a</think><answer>b</answer>"
    assert "".join(_stream(tokenizer, ids, False)[0]).endswith("<|endoftext|>")
