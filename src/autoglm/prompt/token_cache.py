"""Tokenised pieces of prompts: a system prompt is tokenised once, however many dialogues begin with it."""

from __future__ import annotations

import re
import time
from threading import Lock

from autoglm.cache.local import LocalCache, LocalConfig
from autoglm.errors import InvalidInputError
from autoglm.messages.events import CacheStats
from autoglm.prompt.shared import LONG_TEXT, SharedPrompts, content_key
from autoglm.prompt.tokenizer import Tokenizer

_MAX_ENTRIES = 4096
_ID_BYTES = 36  # of an int object and its place in a tuple
_TEXT_BYTES = 4  # of a character, at most


class TokenCache:
    """Text to ids as :meth:`Tokenizer.encode` gives them, from pieces that were seen before.

    A tokenizer cuts text at its added tokens (``<|user|>`` and the like) before anything else, so what stands between
    two of them is tokenised by itself: pieces are kept, and their ids joined. Where an added token looks at its
    surroundings, or text is normalised first, that does not hold, and nothing is kept. Thread-safe.

    Args:
        capacity_bytes: room for texts and ids; 0 turns the memory off.
        shared: where replicas find one another's ids of long pieces, system prompts above all; ``None``: nowhere.
    """

    def __init__(
        self, tokenizer: Tokenizer, capacity_bytes: int = 8 * 2**20, shared: SharedPrompts | None = None
    ) -> None:
        if capacity_bytes < 0:
            raise InvalidInputError(
                "token_cache_bytes must not be negative", field="token_cache_bytes", limit=0, value=capacity_bytes
            )
        self._tokenizer = tokenizer
        self._capacity = capacity_bytes
        plain = tokenizer.cutting_tokens()
        self._ids = {} if plain is None else plain
        self._cut: re.Pattern[str] | None = None
        if capacity_bytes and self._ids:
            # At one place the longest matches, as in the tokenizer itself.
            longest_first = sorted(self._ids, key=len, reverse=True)
            self._cut = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")
        self._pieces: LocalCache[str, tuple[int, ...]] = LocalCache(
            LocalConfig(max_entries=_MAX_ENTRIES, max_weight=capacity_bytes, ttl=None)
        )
        self._shared = shared
        self._identity = tokenizer.identity() if shared is not None else b""
        self._lock = Lock()
        self._seconds = 0.0
        self._loads = 0

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``, equal to what the tokenizer gives for all of it."""
        if self._cut is None:
            return self._tokenizer.encode(text)
        ids: list[int] = []
        for piece in self._cut.split(text):
            known = self._ids.get(piece)
            if known is not None:
                ids.append(known)
            elif piece:
                ids += self._piece(piece)
        return ids

    def clear(self) -> None:
        """Forget all pieces."""
        self._pieces.clear()

    def stats(self) -> CacheStats:
        """Counters since start; a hit or miss is one piece."""
        pieces = self._pieces.stats()
        return CacheStats(
            name="prompt_tokens",
            hits=pieces.hits,
            misses=pieces.misses,
            evictions=pieces.evictions,
            entries=pieces.entries,
            bytes=pieces.weight,
            capacity_bytes=self._capacity,
            loads=self._loads,
            load_seconds=self._seconds,
            causes={str(cause): count for cause, count in pieces.removed.items()},
            hit_age_seconds=pieces.hit_age_seconds,
            evicted_age_seconds=pieces.evicted_age_seconds,
        )

    def _piece(self, piece: str) -> tuple[int, ...]:
        found = self._pieces.get(piece)
        if found is not None:
            return found
        started = time.perf_counter()
        made = tuple(self._ids_of(piece))
        with self._lock:
            self._loads += 1
            self._seconds += time.perf_counter() - started
        self._pieces.put(piece, made, weight=_TEXT_BYTES * len(piece) + _ID_BYTES * len(made))
        return made

    def _ids_of(self, piece: str) -> list[int]:
        shared = self._shared
        if shared is None or len(piece) < LONG_TEXT:
            return self._tokenizer.encode(piece)
        name = content_key(self._identity, piece.encode())
        ids = shared.texts.get_or_load(name, lambda _: self._tokenizer.encode(piece))
        if not ids or not 0 <= min(ids) <= max(ids) < self._tokenizer.vocab_size:  # not of this vocabulary
            return self._tokenizer.encode(piece)
        return ids
