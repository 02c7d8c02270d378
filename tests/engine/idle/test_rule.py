"""Learning a client's rewrite rule: whatever was learnt explains what it was learnt from, and what comes after."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.engine.idle.replies import MOST_FIXED, OPEN_AUTOGLM, Reply, learn_reply
from autoglm.engine.idle.rule import PHONE_CLIENT, Rule, extends, learn
from autoglm.messages import ChatMessage, ImagePart, TextPart

quick = settings(max_examples=150, deadline=None, derandomize=True)
words = st.text("abc 想，\n", min_size=4, max_size=20).filter(lambda t: len(t.strip()) >= 4)
actions = st.sampled_from(['do(action="Back")', 'do(action="Type", text="x y")', 'finish(message="好")'])
frames = st.sampled_from(
    [("", "", ""), ("<think>", "</think><answer>", "</answer>"), ("T: ", "\nA: ", ""), ("", " | ", "!")]
)


@dataclass(frozen=True)
class Habit:
    """A client: what it does with old screens and with answers."""

    kept: int | None
    instead: str | None
    as_string: bool
    reply: Reply

    def turn(self, number: int) -> ChatMessage:
        return ChatMessage("user", [ImagePart(b"screen %d" % number), TextPart(f"turn {number}")])

    def rewritten(self, message: ChatMessage) -> ChatMessage:
        parts = message.content
        assert not isinstance(parts, str)
        texts = [p for p in parts if isinstance(p, TextPart)]
        if self.as_string:
            return ChatMessage(message.role, "".join(p.text for p in texts))
        return ChatMessage(message.role, [*([TextPart(self.instead)] if self.instead else []), *texts])

    def requests(self, answers: list[str]) -> list[list[ChatMessage]]:
        """One request more than there are answers."""
        history = [ChatMessage("system", "You operate a phone."), self.turn(0)]
        found = [list(history)]
        for number, answer in enumerate(answers, 1):
            shown = [i for i, m in enumerate(history) if m.role == "user" and not isinstance(m.content, str)]
            shown = [i for i in shown if any(isinstance(p, ImagePart) for p in history[i].content)]
            for index in shown[: 0 if self.kept is None else max(0, len(shown) - self.kept)]:
                history[index] = self.rewritten(history[index])
            text = self.reply.write(answer)
            assert text is not None
            history += [ChatMessage("assistant", text), self.turn(number)]
            found.append(list(history))
        return found


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    before, between, after = draw(frames)
    cut, with_head = draw(st.sampled_from([("whole", False), ("action", True)]))
    if cut == "whole" or not (before or between or after):  # without a frame, a cut does not show
        return Reply("whole", "both" if before or after else "none", False, before, "", after)
    return Reply("action", draw(st.sampled_from(["head", "both"])), with_head, before, between, after)


habits = st.builds(
    Habit,
    kept=st.sampled_from([0, 0, 1, 2, None]),
    instead=st.sampled_from([None, "[screen removed]"]),
    as_string=st.booleans(),
    reply=replies(),
)


@quick
@given(habit=habits, thoughts=st.lists(words, min_size=5, max_size=5), ends=st.lists(actions, min_size=5, max_size=5))
def test_two_requests_foretell_the_third(habit: Habit, thoughts: list[str], ends: list[str]) -> None:
    answers = [thought + end for thought, end in zip(thoughts, ends, strict=True)]
    requests = habit.requests(answers)
    rule: Rule | None = None
    for number in range(1, len(requests)):
        old, new = requests[number - 1], requests[number]
        if rule is not None and number > (habit.kept or 0) + 1:  # by then an old screen was seen to go
            assert rule.predict(old, answers[number - 1]) == new[:-1]
        rule = learn(old, answers[number - 1], new, [rule] if rule else [])
        assert rule is not None
        assert rule.predict(old, answers[number - 1]) == new[:-1]
        assert (rule.next_role, rule.next_kinds) == ("user", ("image", "text"))


parts = st.one_of(
    st.builds(TextPart, st.sampled_from(["", "a", "ab", "open"])), st.builds(ImagePart, st.sampled_from([b"1", b"2"]))
)
messages = st.lists(
    st.builds(
        ChatMessage,
        st.sampled_from(["system", "user", "assistant"]),
        st.one_of(st.sampled_from(["", "a", "ab"]), st.lists(parts, min_size=1, max_size=3)),
    ),
    min_size=1,
    max_size=5,
)


@quick
@given(old=messages, tail=messages, answer=st.sampled_from(["", "a", "ab", "x"]), same=st.booleans(), other=messages)
def test_what_is_learnt_explains_what_was_seen(
    old: list[ChatMessage], tail: list[ChatMessage], answer: str, same: bool, other: list[ChatMessage]
) -> None:
    """For any two requests, of any client: a rule, or none, but never a wrong account of the past."""
    new = [*(old if same else other), *tail]
    rule = learn(old, answer, new, [PHONE_CLIENT])
    if rule is None:
        return
    assert extends(old, new)
    made = rule.predict(old, answer)
    assert made is not None
    assert made[: len(old)] == new[: len(old)]
    if rule.reply is not None:
        content = new[len(old)].content
        texts = content if isinstance(content, str) else "".join(p.text for p in content if isinstance(p, TextPart))
        assert made[len(old)].content == texts


@quick
@given(answer=st.text("ab<>/think ", max_size=30), written=st.text("ab<>/think ", max_size=40))
def test_a_learnt_reply_writes_what_was_written(answer: str, written: str) -> None:
    reply = learn_reply(answer, written)
    if reply is not None:
        assert reply.write(answer) == written
        assert max(len(reply.before), len(reply.between), len(reply.after)) <= MOST_FIXED


@pytest.mark.parametrize(
    ("answer", "thought", "action"),
    [
        ('I go back.\ndo(action="Back")', "I go back.", 'do(action="Back")'),
        ('<think>so</think><answer>do(action="Home")', "<think>so</think><answer>", 'do(action="Home")'),
        ('done finish(message="do(action=")', "done", 'finish(message="do(action=")'),
        ("no action at all", "", "no action at all"),
        ("<think>so</think><answer>wait</answer>", "so", "wait"),
    ],
)
def test_the_phone_clients_own_frame(answer: str, thought: str, action: str) -> None:
    written = f"<think>{thought}</think><answer>{action}</answer>"
    assert OPEN_AUTOGLM.write(answer) == written
    assert learn_reply(answer, written, [OPEN_AUTOGLM]) == OPEN_AUTOGLM


def test_a_known_rule_wins_where_several_fit() -> None:
    """An answer without a thought does not show how thoughts are framed; one before it did."""
    known = replace(OPEN_AUTOGLM, before="«", between="»«", after="»")
    assert learn_reply('do(action="Back")', '«»«do(action="Back")»', [known]) == known
    guessed = learn_reply('do(action="Back")', '«»«do(action="Back")»')
    assert guessed is not None
    assert guessed.write('thought do(action="Back")') != known.write('thought do(action="Back")')


def test_a_client_that_touches_something_else_teaches_nothing() -> None:
    old = [ChatMessage("system", "12:00"), ChatMessage("user", "hi")]
    new = [ChatMessage("system", "12:01"), ChatMessage("user", "hi"), ChatMessage("assistant", "yes")]
    assert learn(old, "yes", [*new, ChatMessage("user", "and")]) is None
    assert learn(old, "yes", [old[1]]) is None
    assert learn(old, "yes", [*old, ChatMessage("assistant", "something else"), ChatMessage("user", "and")]) is None
