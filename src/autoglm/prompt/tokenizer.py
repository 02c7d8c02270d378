"""The checkpoint's byte-level BPE tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers

from autoglm.errors import CheckpointNotFoundError, CorruptCheckpointError, UnsupportedCheckpointError
from autoglm.prompt.files import read_optional_json

_NAMED_TOKENS = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)


def _byte_alphabet() -> dict[str, int]:
    """The printable stand-in of each byte in a byte-level BPE vocabulary (GPT-2, Radford et al. 2019)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in set(printable))
    table.update({chr(256 + index): byte for index, byte in enumerate(others)})
    return table


_BYTE_OF = _byte_alphabet()


class Tokenizer:
    """Text to ids and ids to bytes.

    Special-token strings inside a text become their ids wherever they stand, exactly as transformers'
    ``apply_chat_template`` does by default: a dialogue's history holds ``<think>`` and ``</answer>`` as
    text and the model must see the tokens. Image placeholders are the exception; :class:`PromptBuilder`
    refuses them.

    Args:
        backend: a ``tokenizers.Tokenizer`` whose decoder is ByteLevel. It is owned from now on.
        named_tokens: what ``tokenizer_config.json`` calls ``eos_token`` and so on; templates may use them.
        source: where it came from, for messages.

    Raises:
        UnsupportedCheckpointError: the vocabulary is not byte-level.
    """

    def __init__(
        self, backend: tokenizers.Tokenizer, *, named_tokens: Mapping[str, str], source: str = "tokenizer"
    ) -> None:
        decoder = backend.decoder
        if not isinstance(decoder, tokenizers.decoders.ByteLevel):
            raise UnsupportedCheckpointError(
                f"{source}: only byte-level BPE is supported, not decoder {type(decoder).__name__}",
                field="tokenizer.json",
                value=type(decoder).__name__,
            )
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self.named_tokens = dict(named_tokens)
        self.special_ids = frozenset(
            index for index, token in backend.get_added_tokens_decoder().items() if token.special
        )
        vocabulary = backend.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocabulary.values(), default=-1) + 1
        self._bytes: list[bytes] = [b""] * self.vocab_size
        for token, index in vocabulary.items():
            self._bytes[index] = _token_bytes(token)

    @classmethod
    def from_directory(cls, directory: str | Path) -> Tokenizer:
        """Read ``tokenizer.json`` and, where present, ``tokenizer_config.json`` and
        ``special_tokens_map.json``.

        Raises:
            CheckpointNotFoundError: no ``tokenizer.json``.
            CorruptCheckpointError: a file does not parse, or the files contradict each other.
            UnsupportedCheckpointError: not a byte-level vocabulary.
        """
        path = Path(directory) / "tokenizer.json"
        if not path.is_file():
            raise CheckpointNotFoundError(f"no tokenizer.json in {directory}", field="tokenizer.json", value=str(path))
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception for every kind of damage
            raise CorruptCheckpointError(
                f"{path} is not a tokenizer: {error}", field="tokenizer.json", value=str(path)
            ) from error
        config = read_optional_json(path.with_name("tokenizer_config.json"))
        legacy = read_optional_json(path.with_name("special_tokens_map.json"))
        _add_missing_tokens(backend, config.get("added_tokens_decoder") or {}, path)
        named: dict[str, str] = {}
        for name in _NAMED_TOKENS:
            content = _token_content(config.get(name, legacy.get(name)))
            if content is not None:
                named[name] = content
        return cls(backend, named_tokens=named, source=str(path))

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``; nothing is added around it. ``text`` must be encodable as UTF-8."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def identity(self) -> bytes:
        """sha-256 over all that decides :meth:`encode`: vocabulary, merges, added tokens, the library's version.

        Costs as much as writing ``tokenizer.json``.
        """
        return hashlib.sha256(f"{tokenizers.__version__}\0{self._backend.to_str()}".encode()).digest()

    def decode(self, ids: list[int], *, skip_special_tokens: bool = False) -> str:
        """Text of ``ids``; bytes that are not UTF-8 become U+FFFD.

        Ids outside the vocabulary give nothing.
        """
        return b"".join(self.token_bytes(i) for i in ids if not (skip_special_tokens and i in self.special_ids)).decode(
            "utf-8", "replace"
        )

    def cutting_tokens(self) -> dict[str, int] | None:
        """Added tokens at which text falls apart into pieces that are tokenised independently, with their ids.

        ``None`` where that does not hold: an added token takes blanks or words around it into account, or text (and
        with it the added tokens) is normalised before it is cut.
        """
        added = {token.content: (index, token) for index, token in self._backend.get_added_tokens_decoder().items()}
        if self._backend.normalizer is not None:
            return None
        if any(token.lstrip or token.rstrip or token.single_word for _, token in added.values()):
            return None
        return {content: index for content, (index, _) in added.items() if content}

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes token ``token_id`` stands for; empty for padded ids the vocabulary does not name."""
        return self._bytes[token_id] if 0 <= token_id < self.vocab_size else b""

    def token_text(self, token_id: int) -> tuple[str, bytes]:
        """One token alone, for logprobs: its text (U+FFFD for partial characters), its exact bytes."""
        raw = self.token_bytes(token_id)
        return raw.decode("utf-8", "replace"), raw

    def token_id(self, token: str) -> int | None:
        """The id of exactly this token, if it is in the vocabulary."""
        index: int | None = self._backend.token_to_id(token)
        return index

    def token(self, token_id: int) -> str | None:
        """The vocabulary's own spelling of ``token_id`` (byte-level characters for ordinary tokens)."""
        token: str | None = self._backend.id_to_token(token_id) if token_id >= 0 else None
        return token


def _token_bytes(token: str) -> bytes:
    try:
        return bytes(_BYTE_OF[character] for character in token)
    except KeyError:  # an added token with a blank or a character outside the byte alphabet: literal text
        return token.encode("utf-8", "replace")


def _token_content(value: object) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _add_missing_tokens(backend: tokenizers.Tokenizer, declared: Mapping[str, Any], path: Path) -> None:
    """Tokens that only ``tokenizer_config.json`` declares; they must land on the ids it declares."""
    for key in sorted(declared, key=lambda k: int(k) if str(k).isdigit() else -1):
        entry = declared[key]
        content = _token_content(entry)
        if content is None or not str(key).isdigit():
            raise CorruptCheckpointError(
                f"{path.parent / 'tokenizer_config.json'}: added_tokens_decoder[{key!r}] is not a token",
                field="tokenizer_config.json",
                value=str(key),
            )
        if backend.token_to_id(content) is None:
            flags = {n: bool(entry[n]) for n in ("lstrip", "rstrip", "single_word", "normalized") if n in entry}
            token = tokenizers.AddedToken(content, special=bool(entry.get("special", False)), **flags)
            if token.special:
                backend.add_special_tokens([token])
            else:
                backend.add_tokens([token])
        if backend.token_to_id(content) != int(key):
            raise CorruptCheckpointError(
                f"{path.parent}: token {content!r} has id {backend.token_to_id(content)} in tokenizer.json "
                f"and {key} in tokenizer_config.json",
                field="added_tokens_decoder",
                limit=int(key),
                value=backend.token_to_id(content),
            )
