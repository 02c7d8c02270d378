"""What a KV block is called outside its process: a digest of all it depends on.

The name of a block is sha-256 over its parent's name and its tokens, spelled out: ids, and for images their content
digests. The root is over the model's identity and the salt. Nothing of it is a number that one process made up, so
a block of another process, or of an earlier run, with this name is this block.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

from autoglm.cache.identity import ImageOrdinals, spell

_FORMAT = b"autoglm kv 1"


class ChainNames:
    """Names of chains of one model.

    Args:
        identity: everything KV values depend on beside tokens and images: weights, adapter, number format, block size.
    """

    def __init__(self, identity: bytes, ordinals: ImageOrdinals) -> None:
        self.identity = identity
        self._ordinals = ordinals

    def root(self, salt: str) -> bytes:
        """The name before the first block; salts never share."""
        tenant = salt.encode()
        return _hash(_FORMAT, struct.pack("<QQ", len(self.identity), len(tenant)), self.identity, tenant)

    def extend(self, parent: bytes, identities: Sequence[int]) -> bytes | None:
        """The name of the block with these tokens; ``None`` if an image among them was forgotten."""
        if min(identities) >= 0 and max(identities) < 2**32:
            return _hash(parent, b"t", struct.pack(f"<{len(identities)}Q", *identities))
        spelled = [spell(i, self._ordinals) for i in identities]
        known = [s for s in spelled if s is not None]
        return _hash(parent, b"m", *known) if len(known) == len(spelled) else None


def _hash(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()
