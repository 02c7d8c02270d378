"""The wire types: what crosses between the server process and the engine process, and nothing else.

All types are :mod:`msgspec` structs, encoded as msgpack in length-prefixed frames on a socket pair.
``Command`` flows from server to engine, ``Event`` from engine to server (batched: one frame per step).
"""

from autoglm.messages.commands import Cancel, Command, ForgetPrompts, GetStats, KeepSession, Shutdown, Submit
from autoglm.messages.content import ChatMessage, ImagePart, TextPart
from autoglm.messages.events import (
    Accepted,
    CacheStats,
    ErrorInfo,
    Event,
    Failed,
    Finish,
    ModelInfo,
    Output,
    Progress,
    Ready,
    Stats,
    StatsReply,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from autoglm.messages.sampling import Ending, SamplingParams
from autoglm.messages.wire import (
    MAX_FRAME_BYTES,
    FrameDecoder,
    decode_command,
    decode_events,
    encode_command,
    encode_events,
)

__all__ = [
    "MAX_FRAME_BYTES",
    "Accepted",
    "CacheStats",
    "Cancel",
    "ChatMessage",
    "Command",
    "Ending",
    "ErrorInfo",
    "Event",
    "Failed",
    "Finish",
    "ForgetPrompts",
    "FrameDecoder",
    "GetStats",
    "ImagePart",
    "KeepSession",
    "ModelInfo",
    "Output",
    "Progress",
    "Ready",
    "SamplingParams",
    "Shutdown",
    "Stats",
    "StatsReply",
    "Submit",
    "TextPart",
    "TokenLogprob",
    "TopLogprob",
    "Usage",
    "decode_command",
    "decode_events",
    "encode_command",
    "encode_events",
]
