"""Token ids to text, one id at a time, never cutting a character in two."""

from __future__ import annotations

import codecs

from autoglm.prompt.tokenizer import Tokenizer


class IncrementalDetokenizer:
    """Streams the text of a growing list of ids; amortised O(1) per token.

    A byte-level token may hold a part of a UTF-8 character. Its bytes wait here until the character is
    complete. The concatenation of all that :meth:`push` and :meth:`flush` return equals the decoding of all
    the ids at once, U+FFFD for broken bytes included.

    Args:
        skip_special_tokens: give no text for tokens flagged special in ``tokenizer.json``. ``<think>`` and
            its kin are added tokens without that flag and stay.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skipped = tokenizer.special_ids if skip_special_tokens else frozenset()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The text that ``token_id`` completes; empty while a character is incomplete."""
        if token_id in self._skipped:
            return ""
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def flush(self) -> str:
        """The end of the stream: U+FFFD for a character that never got complete, else nothing."""
        return self._decoder.decode(b"", final=True)
