"""Configured system prompts, computed by the engine before anybody asks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from uuid import uuid4

from autoglm.errors import AutoGLMError
from autoglm.messages import ChatMessage, SamplingParams, Submit
from autoglm.server.link import EngineLink

log = logging.getLogger(__name__)


async def compute_prompts(link: EngineLink, prompts: Sequence[str], progress: Callable[[int, int], None]) -> None:
    """One short request for each: afterwards the engine knows the state behind the prompt.

    Waits until an engine is ready. A prompt that the model refuses is left out.
    """
    if not prompts:
        return
    await link.ready()
    for index, text in enumerate(prompts):
        progress(index, len(prompts))
        messages = [ChatMessage("system", text), ChatMessage("user", "-")]
        sampling = SamplingParams(max_tokens=1, temperature=0.0)
        try:
            stream = link.submit(Submit(id=f"warm-{uuid4().hex}", messages=messages, sampling=sampling))
        except AutoGLMError as error:
            log.warning("a system prompt could not be computed: %s", error.message)
            continue
        try:
            while await stream.next() is not None:
                pass
        except AutoGLMError as error:
            log.warning("a system prompt could not be computed: %s", error.message)
        finally:
            link.release(stream)
    progress(len(prompts), len(prompts))
