"""Random actions and texts."""

from __future__ import annotations

from hypothesis import strategies as st

from autoglm.agent import actions as kinds
from autoglm.agent.actions import Action

# Surrogates alone are no text. The awkward ones come often: quotes, escapes, line ends, brackets, tags, Chinese.
AWKWARD = ['"', "'", "\\", "\n", "\r\n", "\t", "\x00", "\u2028", ")", '")', "', x=", "<answer>", "</answer>", "<think>"]
AWKWARD += ["</think>", "do(action=", "finish(message=", "\\u", "你好", "😀", "\x85", "\ufeff", "%s", "[1,2]"]
characters = st.characters(exclude_categories=["Cs"])
texts = st.lists(st.one_of(st.sampled_from(AWKWARD), characters), max_size=12).map("".join)
points = st.tuples(st.integers(0, 999), st.integers(0, 999))

BY_KIND: dict[type[Action], st.SearchStrategy[Action]] = {
    kinds.Launch: st.builds(kinds.Launch, texts.filter(str.strip)),
    kinds.Tap: st.builds(kinds.Tap, points, st.none() | texts),
    kinds.DoubleTap: st.builds(kinds.DoubleTap, points),
    kinds.LongPress: st.builds(kinds.LongPress, points),
    kinds.Swipe: st.builds(kinds.Swipe, points, points),
    kinds.Type: st.builds(kinds.Type, texts, st.booleans()),
    kinds.Back: st.just(kinds.Back()),
    kinds.Home: st.just(kinds.Home()),
    kinds.Wait: st.builds(kinds.Wait, st.integers(0, 60)),
    kinds.TakeOver: st.builds(kinds.TakeOver, texts),
    kinds.Interact: st.just(kinds.Interact()),
    kinds.Note: st.builds(kinds.Note, texts),
    kinds.CallApi: st.builds(kinds.CallApi, texts),
    kinds.Finish: st.builds(kinds.Finish, texts),
}
actions: st.SearchStrategy[Action] = st.one_of(*BY_KIND.values())
