"""What a token *is* to the KV cache: its id, and exactly which image it stands for or sees.

Placeholder ids are the same for every image, so they never identify anything. Each image digest is interned to an
ordinal that is never given out twice; identities are plain integers, compared for equality, never by hash alone:

* a text token that sees no image: its id;
* placeholder ``k`` of an image in the sequence: a negative number made of (ordinal, k);
* a text token that sees images by cross-attention: its id plus the ordinal of that set of images.

A KV block's key is the chain of identities from the first token on, so whatever a token could attend to is in it.
"""

from __future__ import annotations

import hashlib
import struct
from collections import OrderedDict
from collections.abc import Iterable, Sequence

_OFFSET_BITS = 24
_TOKEN_BITS = 32


class ImageOrdinals:
    """Digest (or tuple of digests) to a number used once.

    At most ``capacity`` are remembered; a forgotten digest gets a new number, which costs a miss and never a
    wrong hit.
    """

    def __init__(self, capacity: int = 65536) -> None:
        self._capacity = capacity
        self._numbers: OrderedDict[bytes | tuple[bytes, ...], int] = OrderedDict()
        self._contents: dict[int, bytes] = {}
        self._next = 1

    def of(self, key: bytes | tuple[bytes, ...]) -> int:
        """The ordinal of a digest, at least 1."""
        number = self._numbers.get(key)
        if number is None:
            number = self._next
            self._next += 1
            self._numbers[key] = number
            self._contents[number] = key if isinstance(key, bytes) else hashlib.sha256(b"".join(key)).digest()
            if len(self._numbers) > self._capacity:
                del self._contents[self._numbers.popitem(last=False)[1]]
        else:
            self._numbers.move_to_end(key)
        return number

    def content(self, number: int) -> bytes | None:
        """The digest (of several: the digest of their digests) an ordinal stands for; ``None`` if forgotten."""
        return self._contents.get(number)


def sequence_identities(
    token_ids: Sequence[int], images: Iterable[tuple[int, int, bytes]], ordinals: ImageOrdinals
) -> list[int]:
    """Identities where images are part of the sequence; ``images``: (start, placeholder count, digest)."""
    identities = list(token_ids)
    for start, count, digest in images:
        base = ordinals.of(digest) << _OFFSET_BITS
        identities[start : start + count] = [-(base | k) - 1 for k in range(count)]
    return identities


def sighted_identity(token_id: int, sight: int) -> int:
    """Identity of a text token that sees image set ``sight`` (an ordinal; 0: none)."""
    return token_id | sight << _TOKEN_BITS


def spell(identity: int, ordinals: ImageOrdinals) -> bytes | None:
    """An identity in terms that hold in any process; no two spellings are prefixes of one another by chance.

    Returns ``None`` if it names an image that was forgotten.
    """
    if identity < 0:
        ordinal, offset = divmod(-identity - 1, 1 << _OFFSET_BITS)
        content = ordinals.content(ordinal)
        return None if content is None else b"i" + struct.pack("<QI", offset, len(content)) + content
    ordinal, token = divmod(identity, 1 << _TOKEN_BITS)
    if not ordinal:
        return b"t" + struct.pack("<Q", token)
    content = ordinals.content(ordinal)
    return None if content is None else b"s" + struct.pack("<QI", token, len(content)) + content
