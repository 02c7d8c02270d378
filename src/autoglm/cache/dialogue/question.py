"""What an answer depends on, and the key under which it is kept."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from autoglm.cache.dialogue.normalise import QueryRules, normalise
from autoglm.errors import InvalidInputError

KEY_BYTES = 8
_SESSION = re.compile(r"[A-Za-z0-9._-]{1,128}")
SESSION_PATTERN = "^" + _SESSION.pattern + "$"


def check_session(session: str) -> str:
    """``session``, if it is safe as a part of a key. Raises :class:`InvalidInputError`."""
    if not _SESSION.fullmatch(session):
        raise InvalidInputError(
            f"session takes 1 to 128 letters, digits, '.', '_' and '-', got {session[:40]!r}",
            field="session",
            limit=128,
            value=session[:40],
        )
    return session


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One query of one session of one tenant.

    Attributes:
        tenant: who may see the answer: API key, user, salt. Never shared with another.
        screen: digest of the images, if the answer depends on them.
        context: digest of everything else it depends on: earlier turns, sampling, model.
    """

    tenant: str
    session: str
    query: str
    screen: bytes = b""
    context: bytes = b""

    def __post_init__(self) -> None:
        check_session(self.session)

    def digest(self, rules: QueryRules | None = None) -> bytes:
        """32 bytes of SHA-256: of the normalised query alone, or followed by screen and context where given."""
        text = normalise(self.query, rules).encode("utf-8", "surrogatepass")
        whole = hashlib.sha256(text)
        if self.screen or self.context:
            for part in (self.screen, self.context):
                whole.update(len(part).to_bytes(8, "big") + part)
            whole.update(len(text).to_bytes(8, "big"))  # so that no text can imitate the parts
        return whole.digest()


def visible_key(session: str, digest: bytes) -> str:
    """``conv:<session>:<first 8 bytes of the digest, hex>``."""
    return f"conv:{session}:{digest[:KEY_BYTES].hex()}"


def tenant_name(tenant: str) -> str:
    """A tenant's place in the store: 16 hex digits that tell nothing about a key or a user."""
    return hashlib.sha256(b"tenant\0" + tenant.encode("utf-8", "surrogatepass")).hexdigest()[:16]
