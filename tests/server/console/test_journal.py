"""What viewers see, however slowly they look."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.server.console.journal import Journal, LaggedError, Thought, Viewer

MOVES = st.lists(
    st.one_of(
        st.just(("add", "")),
        st.just(("frame", "")),
        st.tuples(st.just("write"), st.text(min_size=1, max_size=4)),
        st.just(("step", "")),
        st.tuples(st.just("look"), st.sampled_from(["0", "1", "2"])),
    ),
    max_size=60,
)


class Page:
    """A viewer that puts together what it is sent."""

    def __init__(self, journal: Journal) -> None:
        self.viewer = Viewer(journal, None)
        self.numbers: list[int] = []
        self.frames: list[int] = []
        self.thoughts: dict[int, str] = {}

    def look(self) -> None:
        for event in self.viewer.take():
            if event["type"] == "entry":
                self.numbers.append(event["number"])
            elif event["type"] == "frame":
                self.frames.append(event["frame"])
            elif event["type"] == "thought":
                before = self.thoughts.get(event["step"], "")
                assert event["at"] in (0, len(before))
                self.thoughts[event["step"]] = (before if event["at"] else "") + event["text"]


@given(MOVES)
async def test_history_whole_and_the_rest_newest(moves: list[tuple[str, str]]) -> None:
    journal = Journal(1000)
    pages = [Page(journal) for _ in range(3)]
    step, written, added = 0, "", 0
    for move, what in moves:
        if move == "add":
            journal.add("entry", number=added)
            added += 1
        elif move == "frame":
            journal.new_frame("")
        elif move == "write":
            written += what
            journal.set_thought(Thought(1, step, written))
        elif move == "step":
            step, written = step + 1, ""
            journal.set_thought(Thought(1, step))
        else:
            pages[int(what)].look()
    for page in pages:
        page.look()
        assert page.numbers == list(range(added))
        assert page.frames == sorted(set(page.frames))
        assert page.frames[-1] == journal.frame.number
        assert page.thoughts.get(step, "") == written


async def test_a_viewer_that_comes_late_goes_on_where_it_was() -> None:
    journal = Journal(10)
    for number in range(5):
        journal.add("entry", number=number)
    seen = [event["number"] for event in Viewer(journal, 3).take() if event["type"] == "entry"]
    assert seen == [3, 4]


async def test_what_is_forgotten_is_said() -> None:
    journal = Journal(4)
    viewer = Viewer(journal, None)
    for number in range(5):
        journal.add("entry", number=number)
    with pytest.raises(LaggedError) as caught:
        list(viewer.take())
    assert (caught.value.limit, caught.value.value) == (2, 1)
    assert [event["number"] for event in Viewer(journal, None).take() if event["type"] == "entry"] == [1, 2, 3, 4]


async def test_equal_states_are_told_once() -> None:
    journal = Journal(4)
    viewer = Viewer(journal, None)

    def states() -> list[Any]:
        return [event["phone"] for event in viewer.take() if event["type"] == "state"]

    journal.set_state({"task": None})
    assert states() == [{"task": None}]
    changed = journal.changed
    journal.set_state({"task": None})
    assert states() == []
    assert not changed.is_set()


async def test_every_waiting_viewer_wakes() -> None:
    journal = Journal(4)
    waiting = [asyncio.create_task(journal.changed.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    journal.add("entry")
    await asyncio.wait_for(asyncio.gather(*waiting), 60)
