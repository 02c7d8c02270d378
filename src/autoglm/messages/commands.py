"""Server to engine."""

from __future__ import annotations

from msgspec import Struct

from autoglm.messages.content import ChatMessage
from autoglm.messages.sampling import SamplingParams


class Submit(Struct, frozen=True, kw_only=True, tag="submit"):
    """Start ``n`` choices for one dialogue.

    Attributes:
        id: unique among the requests in flight.
        priority: lower runs first (as in vLLM); ties are first come, first served.
        cache_salt: requests with different salts never share cached state (tenants).
        session: names the dialogue within its salt; its KV is kept for ``keep_seconds`` from its last token on.
    """

    id: str
    messages: list[ChatMessage]
    sampling: SamplingParams
    n: int = 1
    priority: int = 0
    cache_salt: str = ""
    session: str = ""
    keep_seconds: float = 0.0


class Cancel(Struct, frozen=True, tag="cancel"):
    """Forget request ``id``; its blocks return to the pool within one step. No event follows."""

    id: str


class KeepSession(Struct, frozen=True, kw_only=True, tag="keep_session"):
    """Keep the KV of a session for ``seconds`` from now; 0 lets go of it. Unknown sessions are fine. No event."""

    session: str
    seconds: float
    cache_salt: str = ""


class ForgetPrompts(Struct, frozen=True, tag="forget_prompts"):
    """Empty the memory of processed images and of tokenised texts. No event."""


class GetStats(Struct, frozen=True, tag="get_stats"):
    """Ask for a :class:`StatsReply` with the same ``id``."""

    id: str


class Shutdown(Struct, frozen=True, tag="shutdown"):
    """Finish the current step and exit with status 0."""


Command = Submit | Cancel | KeepSession | ForgetPrompts | GetStats | Shutdown
