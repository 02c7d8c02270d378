"""The JSON of answers: chunks, completions, usage, log-probabilities."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from autoglm import __version__
from autoglm.messages import TokenLogprob, Usage

FINGERPRINT = f"autoglm-{__version__}"


def envelope(kind: str, request_id: str, created: int, model: str) -> dict[str, Any]:
    """What every answer object begins with."""
    return {
        "id": request_id,
        "object": kind,
        "created": created,
        "model": model,
        "system_fingerprint": FINGERPRINT,
    }


def usage_of(usages: Iterable[Usage]) -> dict[str, Any]:
    """Of all choices: the prompt counts once."""
    every = list(usages)
    prompt, completion = every[0].prompt_tokens, sum(u.completion_tokens for u in every)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": every[0].cached_tokens,
            "image_tokens": every[0].image_tokens,
        },
        "completion_tokens_details": {
            "drafted_tokens": sum(u.drafted_tokens for u in every),
            "accepted_tokens": sum(u.accepted_tokens for u in every),
        },
    }


def logprobs_of(tokens: list[TokenLogprob] | None) -> dict[str, Any] | None:
    """OpenAI's ``logprobs`` object, with the exact bytes of each token."""
    if tokens is None:
        return None
    return {
        "content": [
            _entry(t.token, t.raw, t.logprob) | {"top_logprobs": [_entry(a.token, a.raw, a.logprob) for a in t.top]}
            for t in tokens
        ],
        "refusal": None,
    }


def _entry(token: str, raw: bytes, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": max(logprob, -9999.0), "bytes": list(raw)}
