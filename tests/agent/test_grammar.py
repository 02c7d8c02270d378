"""The grammar: what we write is what we read, the client's quirks, and nothing else."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from autoglm.agent.actions import Action, Back, Finish, Home, Tap, Type, Wait, format_action
from autoglm.agent.grammar import COMPLETE_ACTION, complete_action, parse_output
from autoglm.agent.reading import MAX_TAIL, OutputReader
from autoglm.errors import ActionParseError
from tests.agent.strategies import AWKWARD, BY_KIND, actions, texts

thoughts = st.text("一二三 do(finish)[]\"'\\<>/abc\n", max_size=40).filter(lambda t: "<" not in t)


@given(actions, thoughts, st.sampled_from(["", "</answer>", "\n</answer>", "</answer></answer>"]))
def test_round_trip(action: Action, thought: str, closing: str) -> None:
    written = format_action(action)
    assert parse_output(written + closing) == ("", action)
    text = f"<think>{thought}</think>\n<answer>{written}{closing}"
    assert parse_output(text) == (thought.strip(), action)
    assert complete_action(text) == action


def test_every_action_is_tried() -> None:
    assert set(BY_KIND) == set(get_args(Action))


@given(actions, thoughts)
def test_history_form(action: Action, thought: str) -> None:
    """The client wraps an output once more before it shows it to the model: a model may answer in that form."""
    once = f"<think>{thought}</think>\n<answer>"
    nested = f"<think>{once}</think><answer>{format_action(action)}</answer></answer>"
    assert parse_output(nested) == (thought.strip(), action)


@given(actions, thoughts, st.data())
def test_complete_at_the_closing_parenthesis_and_not_before(action: Action, thought: str, data: st.DataObject) -> None:
    text = f"<think>{thought}</think><answer>{format_action(action)}"
    cut = data.draw(st.integers(0, len(text) - 1))
    assert complete_action(text[:cut]) is None


def test_what_follows_a_complete_action_is_not_looked_at_yet() -> None:
    assert complete_action('do(action="Back") and') == Back()
    assert complete_action('do(action="Type", text="say "hi")') is None  # the string may go on


@given(
    st.lists(st.sampled_from([*AWKWARD, "do(", "finish(", 'action="Tap"', "element=", ", ", " ", "text=", "=", "a"]))
)
def test_garbage_raises_nothing_else(parts: list[str]) -> None:
    read_or_refuse("".join(parts))


@given(actions, texts, st.data())
def test_damaged_actions_raise_nothing_else(action: Action, noise: str, data: st.DataObject) -> None:
    written = format_action(action)
    start = data.draw(st.integers(0, len(written)))
    end = data.draw(st.integers(start, len(written)))
    read_or_refuse(written[:start] + noise + written[end:])


@given(st.text(st.characters()))
def test_any_text_at_all(text: str) -> None:
    read_or_refuse(text)
    read_or_refuse(f'do(action="Type", text="{text}")')


def read_or_refuse(text: str) -> None:
    refused: ActionParseError | None = None
    try:
        _, action = parse_output(text)
        if not any("\ud800" <= character <= "\udfff" for character in text):  # alone they are no text to write back
            assert parse_output(format_action(action))[1] == action
    except ActionParseError as error:
        refused = error
    if refused is not None:
        assert refused.field
        assert refused.message
        assert len(str(refused.value or "")) <= 80


@pytest.mark.parametrize(
    ("text", "think", "action"),
    [
        ('<think>看到设置</think><answer>do(action="Tap", element=[1,2])', "看到设置", Tap((1, 2))),
        ('<think>a</think>\n<answer>\ndo(action="Back")\n</answer>', "a", Back()),
        ('a plan</think><answer>do(action="Back")', "a plan", Back()),  # servers that write <think> themselves
        ('a plan<answer>do(action="Back")', "a plan", Back()),
        ("<think>do(action='Back')? No.</think><answer>do(action=\"Home\")", "do(action='Back')? No.", Home()),
        ("do(action='Tap',element=[ 0 , 999 ])", "", Tap((0, 999))),
        ('do( action = "Tap", message="付款", element=[5,6] )', "", Tap((5, 6), "付款")),
        ('do(action="Type", text="say "hi" now")', "", Type('say "hi" now')),
        ("do(action=\"Type_Name\", text='it's')", "", Type("it's", name=True)),
        ('do(action="Type", text="C:\\dir")', "", Type("C:\\dir")),
        ('do(action="Type", text="two\nlines\\nthree")', "", Type("two\nlines\nthree")),
        ('do(action="Type", text="\\ud83d\\ude00")', "", Type("😀")),
        ('do(action="Type", text="")', "", Type("")),
        ('finish(message="He said "done"")', "", Finish('He said "done"')),
        ('finish(message="f(x) </answer>")</answer>', "", Finish("f(x) </answer>")),
        ('do(action="Wait", duration="3 seconds")', "", Wait(3)),
        ('do(action="Wait", duration="1 second")', "", Wait(1)),
    ],
)
def test_forms_that_are_read(text: str, think: str, action: Action) -> None:
    assert parse_output(text) == (think, action)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "output"),
        ("I am done.", "output"),
        ("<think>I am done.</think>", "output"),
        ("<think>x</think><answer>Tap the button</answer>", "output"),
        ('I will do(action="Back")', "output"),  # out of a thought without tags: the client would do it
        ('do(action="Back") do(action="Home")', "output"),
        ('do(action="Back")<|end_of_box|>', "output"),
        ('do(action="Fly")', "action"),
        ('do(action="tap", element=[1,2])', "action"),
        ("do(action=Tap, element=[1,2])", "action"),
        ("do(element=[1,2])", "action"),
        ('do(action="Tap" element=[1,2])', "action"),
        ('do(action="Tap", element=[1,2]', "action"),
        ('do(action="Tap")', "element"),
        ('do(action="Tap", element=[1,2], element=[3,4])', "element"),
        ('do(action="Tap", element=[1,2], speed="3")', "speed"),
        ('do(action="Tap", element=[1])', "element"),
        ('do(action="Tap", element=[1,2,3])', "element"),
        ('do(action="Tap", element=[1.5,2])', "element"),
        ('do(action="Tap", element=[1000,2])', "element"),
        ('do(action="Tap", element=[-1,2])', "element"),
        ('do(action="Tap", element=[007,2])', "element"),
        ('do(action="Tap", element=[' + "9" * 6000 + ",2])", "element"),
        ('do(action="Tap", element=[١,2])', "element"),
        ('do(action="Tap", element=(1,2))', "element"),
        ('do(action="Swipe", start=[1,2])', "end"),
        ('do(action="Launch", app=" ")', "app"),
        ('do(action="Launch", app="say "hi"")', "action"),
        ('do(action="Launch", app="\\x41")', "app"),
        ('do(action="Launch", app="\\ud800")', "app"),
        ('do(action="Wait", duration="a while")', "duration"),
        ('do(action="Wait", duration="3600 seconds")', "duration"),
        ('do(action="Type", text="a") and more', "output"),
        ('do(action="Type", text="a", text="b")', "text"),
        ('do(action="Type", text="f("x")")', "action"),  # where the string ends is a guess
        ('do(action="Type", text="open', "text"),
        ("do(action=\"Type\", text=__import__('os'))", "text"),
        ("finish()", "message"),
        ('finish(message="a", reason="b")', "reason"),
        ('__import__("os").system("true")', "output"),
    ],
)
def test_forms_that_are_refused(text: str, field: str) -> None:
    with pytest.raises(ActionParseError) as caught:
        parse_output(text)
    assert caught.value.field == field


@given(thoughts, actions, st.data())
def test_thought_arrives_whole_whatever_the_pieces(thought: str, action: Action, data: st.DataObject) -> None:
    text = f"<think>{thought}</think><answer>{format_action(action)}"
    reader, shown, at = OutputReader(), "", 0
    while at < len(text):
        size = data.draw(st.integers(1, 9))
        shown += reader.feed(text[at : at + size])
        at += size
    assert shown.strip() == thought.strip()
    assert reader.action == action
    assert not reader.running_on
    assert reader.finish() == (thought.strip(), action)


def test_thought_of_an_output_without_tags_is_empty() -> None:
    reader = OutputReader()
    assert "".join(map(reader.feed, 'do(action="Back")')) == ""
    assert reader.finish() == ("", Back())


def test_a_model_that_runs_on_is_noticed() -> None:
    reader = OutputReader()
    reader.feed('do(action="Back")')
    assert not reader.running_on
    reader.feed("x" * (MAX_TAIL + 1))
    assert reader.running_on
    with pytest.raises(ActionParseError, match="follows"):
        reader.finish()


ENDED = re.compile(COMPLETE_ACTION)
CALLS = ("do", "finish")
PARTS = ['do(action="Back")', 'do(action="Type", text=', '"', ")"]
OPENINGS = ["", " ", "<answer>", "<think></think>", "<think>{}</think>\n<answer>", "{}<answer>", "{}</think>"]


@settings(deadline=None)
@given(actions, st.sampled_from(OPENINGS), thoughts.filter(lambda t: not t.strip().startswith(CALLS)), st.data())
def test_the_pattern_ends_an_output_where_its_action_is_complete(
    action: Action, opening: str, thought: str, data: st.DataObject
) -> None:
    written, more = format_action(action), data.draw(texts)
    # Where no tag has closed the thought, the first one to come would, even out of a string.
    assume(opening != "{}<answer>" or "</think>" not in written + more)
    text = opening.replace("{}", thought) + written
    assert parse_output(text)[1] == action
    found = ENDED.match(text + more)
    assert found is not None
    assert found.end() == len(text)
    assert ENDED.match(text[: data.draw(st.integers(0, len(text) - 1))]) is None


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([*AWKWARD, 'do(action="Back")', 'do(action="Type", text=', '"', ")", " ", "a"]), max_size=9
    ),
    texts,
)
def test_what_the_pattern_ends_could_not_become_another_action(parts: list[str], more: str) -> None:
    text = "".join(parts)
    found = ENDED.match(text)
    if found is None:
        return
    at_once = complete_action(text[: found.end()])
    for whole in (text, text[: found.end()] + more):
        try:
            later = parse_output(whole)[1]
        except ActionParseError:
            continue
        assert later == at_once


def test_a_call_in_an_open_thought_ends_nothing() -> None:
    assert ENDED.match('<think>do(action="Back") would help') is None
    assert ENDED.match('<think>\ndo(action="Back") would help') is None
    assert ENDED.match('I could do(action="Back") here') is None
