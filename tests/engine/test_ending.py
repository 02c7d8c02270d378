"""An answer that is complete before the model says so: what is generated, and what stays in the cache."""

from __future__ import annotations

import random
import re
from pathlib import Path

import msgspec
import pytest

from autoglm.messages import Ending, SamplingParams
from autoglm.prompt import Prompt
from tests.engine.harness import Driver, engine_of, user
from tests.engine.speculation.guesser import guess

LONG = SamplingParams(temperature=0.0, max_tokens=48, ignore_eos=True, frequency_penalty=0.2)


@pytest.mark.parametrize("drafts", [False, True])
def test_nothing_is_generated_behind_the_end_and_the_kv_is_kept(checkpoint: Path, drafts: bool) -> None:
    driver = Driver(engine_of(checkpoint))
    whole = driver.ask([user("Hi")], LONG)
    last = max((c for c in whole.text if c.isascii() and c.isalnum()), key=whole.text.index)
    ending = Ending(name="there", pattern=f"[^{re.escape(last)}]*{re.escape(last)}", character=last)
    if drafts:
        guess(driver.engine, {("2", 0): whole.tokens}, random.Random(1), 3, 0.0)
    ended = driver.ask([user("Hi")], msgspec.structs.replace(LONG, ending=ending), cache_salt="own")
    assert ended.finish is not None
    assert (ended.finish.reason, ended.finish.matched) == ("stop", "there")
    assert ended.text == whole.text[: whole.text.index(last) + 1]
    assert ended.tokens == whole.tokens[: len(ended.tokens)]
    assert ended.finish.usage.completion_tokens == len(ended.tokens) < len(whole.tokens)
    assert (driver.engine.accepted_tokens > 0) or not drafts
    # What follows it in the next turn is computed alone, but for the answer's last token, which nothing came after.
    answered = [*driver.engine.prompts.build([user("Hi")]).token_ids, *ended.tokens]
    driver.engine.speculator = driver.engine.scheduler._speculator = None
    driver.engine.submit_prompt("next", Prompt(token_ids=[*answered, 5, 6, 7], images=()), LONG, salt="own")
    driver.drain()
    assert driver.results["next", 0].cached == len(answered) - 1
