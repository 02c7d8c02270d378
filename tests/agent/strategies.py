"""Random actions and texts."""

from __future__ import annotations

from hypothesis import strategies as st

from autoglm.agent.actions import (
    Action,
    Back,
    CallApi,
    DoubleTap,
    Finish,
    Home,
    Interact,
    Launch,
    LongPress,
    Note,
    Swipe,
    TakeOver,
    Tap,
    Type,
    Wait,
)

# Surrogates alone are no text. The awkward ones come often: quotes, escapes, line ends, brackets, tags, Chinese.
AWKWARD = ['"', "'", "\\", "\n", "\r\n", "\t", "\x00", "\u2028", ")", '")', "', x=", "<answer>", "</answer>", "<think>"]
AWKWARD += ["</think>", "do(action=", "finish(message=", "\\u", "你好", "😀", "\x85", "\ufeff", "%s", "[1,2]"]
characters = st.characters(exclude_categories=["Cs"])
texts = st.lists(st.one_of(st.sampled_from(AWKWARD), characters), max_size=12).map("".join)
points = st.tuples(st.integers(0, 999), st.integers(0, 999))

BY_KIND: dict[type[Action], st.SearchStrategy[Action]] = {
    Launch: st.builds(Launch, texts.filter(str.strip)),
    Tap: st.builds(Tap, points, st.none() | texts),
    DoubleTap: st.builds(DoubleTap, points),
    LongPress: st.builds(LongPress, points),
    Swipe: st.builds(Swipe, points, points),
    Type: st.builds(Type, texts, st.booleans()),
    Back: st.just(Back()),
    Home: st.just(Home()),
    Wait: st.builds(Wait, st.integers(0, 60)),
    TakeOver: st.builds(TakeOver, texts),
    Interact: st.just(Interact()),
    Note: st.builds(Note, texts),
    CallApi: st.builds(CallApi, texts),
    Finish: st.builds(Finish, texts),
}
actions: st.SearchStrategy[Action] = st.one_of(*BY_KIND.values())
