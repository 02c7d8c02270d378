"""The static rule on random dialogues: a warm engine answers as one without any cache, and reuses what it may."""

from __future__ import annotations

from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.messages import ChatMessage
from autoglm.prompt import Prompt
from tests.engine.harness import COLD, GREEDY, Driver, engine_of, screen, user

SCREENS = [screen(i, 56, 84) for i in range(3)]
# Few different parts, so that prompts share prefixes, placeholders and pictures at many offsets.
PART = st.sampled_from(["a", "look at this", *SCREENS])
MESSAGES = st.lists(st.lists(PART, min_size=1, max_size=3), min_size=1, max_size=2)
SHORT = msgspec.structs.replace(GREEDY, max_tokens=4, ignore_eos=True)


def identities(prompt: Prompt, salt: str) -> list[tuple[object, ...]]:
    """What each token is, spelled out."""
    found: list[tuple[object, ...]] = [(salt, t) for t in prompt.token_ids]
    for placed in prompt.images:
        for k in range(placed.image.num_tokens):
            found[placed.start + k] = (salt, placed.image.digest, k)
    return found


def common(a: list[tuple[object, ...]], b: list[tuple[object, ...]]) -> int:
    count = 0
    while count < min(len(a), len(b)) and a[count] == b[count]:
        count += 1
    return count


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    requests=st.lists(st.tuples(MESSAGES, st.sampled_from(["", "tenant"])), min_size=2, max_size=5),
    rows=st.sampled_from([7, 33, 1024]),
)
def test_warm_equals_cold_and_reuses_all_it_may(
    checkpoint: Path, requests: list[tuple[list[list[str | bytes]], str]], rows: int
) -> None:
    warm = Driver(engine_of(checkpoint, max_batch_tokens=rows))
    cold = Driver(engine_of(checkpoint, **COLD))
    computed: list[list[tuple[object, ...]]] = []
    for turns, salt in requests:
        messages: list[ChatMessage] = [user(*parts) for parts in turns]
        prompt = warm.engine.prompts.build(messages)
        ours, theirs = warm.ask(messages, SHORT, cache_salt=salt), cold.ask(messages, SHORT, cache_salt=salt)
        assert ours.tokens == theirs.tokens
        assert theirs.cached == 0
        known = identities(prompt, salt)
        best = max((common(known, other) for other in computed), default=0)
        assert ours.cached == min(best, len(known) - 1)
        # The last token was sampled but has no KV.
        computed.append(known + [(salt, t) for t in ours.tokens[:-1]])
