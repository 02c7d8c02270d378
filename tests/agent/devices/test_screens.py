"""Every page, on many phones: labels whole and legible, targets apart and large enough."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoglm.agent.devices.simulated import PhoneSpec, SimulatedPhone
from autoglm.agent.devices.simulated.screens import SCREENS
from autoglm.agent.devices.simulated.spec import SCREENS as SIZES
from autoglm.agent.devices.simulated.state import MAX_TEXT

from .audit import faults
from .driving import page_kinds, show

SEEDS = range(5)


@pytest.mark.parametrize("kind", SCREENS)
def test_pages_are_sound(kind: str) -> None:
    for seed in SEEDS:
        size = SIZES[seed % len(SIZES)]
        scale = (0.95, 1.15)[seed // 2 % 2]
        spec = PhoneSpec(seed, ("zh", "en")[seed % 2], "light", *size, font_scale=scale)
        phone = SimulatedPhone(spec)
        app, arg = page_kinds(phone)[kind]
        for typed, focused in (("", False), ("hello there", True), ("字" * MAX_TEXT, False)):
            show(phone, kind, app, arg, text=typed, focused=focused and kind in ("chat", "search", "shop"))
            assert faults(phone) == []
        phone.state.dialog = ("permission", "update", "delete.0730")[seed % 3]
        assert faults(phone) == []


@pytest.mark.parametrize("kind", ["settings", "contacts", "messages", "shop"])
def test_lists_show_every_row_on_the_way_down(kind: str) -> None:
    for seed in SEEDS:
        phone = SimulatedPhone(PhoneSpec.random(seed))
        show(phone, kind, page_kinds(phone)[kind][0])
        rows = ("row", "person", "product")
        seen: set[str] = set()
        while True:
            assert faults(phone) == []
            seen |= {e.concept for e in phone.elements() if e.kind in rows}
            bar = next((e for e in phone.elements() if e.kind == "scrollbar"), None)
            if bar is None or bar.state == "bottom":
                break
            phone._scroll("up")
        world = phone.world
        counts = {"settings": world.sections, "contacts": world.people, "messages": world.chats, "shop": world.products}
        assert len(seen) == len(counts[kind])
        assert (bar is None) == ("ui.end" not in {e.concept for e in phone.elements()})


def test_long_texts_end_in_an_ellipsis_but_stay_whole_in_the_element() -> None:
    phone = SimulatedPhone(PhoneSpec(3))
    text = "w" * MAX_TEXT
    show(phone, "chat", "messages", phone.world.people[0], text=text)
    item = next(item for item in phone.placed() if item.element.kind == "text_field")
    assert item.element.text == text
    assert item.lines[0].endswith("…")


def test_a_dialog_hides_what_it_covers_and_blocks_the_rest() -> None:
    phone = SimulatedPhone(PhoneSpec(3))
    show(phone, "settings", "settings")
    before = phone.elements()
    phone.state.dialog = "update"
    after = phone.elements()
    assert {e.concept for e in after if e.target} == {"ui.later", "ui.update_now"}
    behind = {replace(e, target=False) for e in before} & set(after)
    assert 0 < len(behind) < len(before)
