"""What actions do."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from autoglm.agent.actions import (
    Back,
    CallApi,
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
from autoglm.agent.devices.simulated import HOME_NAME
from autoglm.agent.devices.simulated.catalog import APPS, label
from autoglm.agent.devices.simulated.state import MAX_ALARMS, MAX_TEXT
from autoglm.agent.tasks.grid import SWIPES, grid_point
from autoglm.errors import InvalidInputError

from .driving import calm_phone, element_of, press, show


def test_launch_by_either_name() -> None:
    phone = calm_phone(language="zh")
    assert phone.current_app == HOME_NAME
    for name in ("Clock", "时钟"):
        assert phone.perform(Launch(name))
        assert phone.current_app == "时钟"
        phone.perform(Home())


def test_launch_of_what_is_not_installed_changes_nothing() -> None:
    phone = calm_phone()
    absent = sorted(set(APPS) - phone.world.installed)[0]
    before = phone.signature()
    assert not phone.perform(Launch(label(f"app.{absent}", "en")))
    assert not phone.perform(Launch("Telegraph"))
    assert phone.signature() == before


def test_the_agents_own_actions_change_nothing() -> None:
    phone = calm_phone()
    before = phone.signature()
    for action in (TakeOver("log in"), Interact(), Note(), CallApi("sum up"), Finish("done")):
        assert not phone.perform(action)
    assert phone.signature() == before


@pytest.mark.parametrize("point", [(-1, 5), (5, 1000)])
def test_points_outside_the_screen_are_refused(point: tuple[int, int]) -> None:
    with pytest.raises(InvalidInputError, match="0\\.\\.999"):
        calm_phone().perform(Tap(point))


def test_toggle_and_choice() -> None:
    phone = calm_phone()
    show(phone, "section", "settings", "display")
    before = phone.state.toggles["dark"]
    assert press(phone, "toggle.dark")
    assert phone.state.toggles["dark"] is not before
    assert element_of(phone, "toggle.dark").state == ("off" if before else "on")
    press(phone, "item.brightness")
    press(phone, "value.high")
    assert phone.state.choices["brightness"] == "high"
    assert element_of(phone, "value.high").state == "selected"
    assert not press(phone, "value.high")


def test_back_closes_dialog_then_keyboard_then_page() -> None:
    phone = calm_phone()
    show(phone, "new_note", "notes", focused=True)
    phone.state.dialog = "update"
    assert phone.perform(Back())
    assert not phone.state.dialog
    assert phone.perform(Back())
    assert not phone.state.page.focused
    assert phone.perform(Back())
    assert not phone.perform(Back())
    assert phone.current_app == HOME_NAME


def test_typing_needs_a_focus_and_replaces() -> None:
    phone = calm_phone()
    person = phone.world.people[0]
    show(phone, "chat", "messages", person)
    assert not phone.perform(Type("hello"))
    press(phone, "ui.hint_text")
    assert phone.perform(Type("hello"))
    assert phone.perform(Type("good\nbye"))
    assert phone.state.page.text == "good bye"
    phone.perform(Type("x" * 200))
    assert phone.state.page.text == "x" * MAX_TEXT


def test_send() -> None:
    phone = calm_phone()
    person = phone.world.people[0]
    show(phone, "chat", "messages", person)
    assert not press(phone, "ui.send")
    press(phone, "ui.hint_text")
    phone.perform(Type("on my way"))
    assert press(phone, "ui.send")
    assert phone.state.chats[person][-1] == (True, "on my way")
    newest = next(e for e in phone.elements() if e.kind == "bubble")
    assert (newest.text, newest.state) == ("on my way", "mine")
    assert phone.state.page.text == ""


def test_alarms() -> None:
    phone = calm_phone()
    phone.state.alarms = {"0730": False}
    show(phone, "alarms", "clock")
    press(phone, "time.0730")
    assert phone.state.alarms == {"0730": True}
    press(phone, "ui.add")
    press(phone, "ui.hint_time")
    phone.perform(Type("25:00"))
    assert not press(phone, "ui.save")
    phone.perform(Type("6:30"))
    assert press(phone, "ui.save")
    assert list(phone.state.alarms) == ["0630", "0730"]
    phone.perform(LongPress(grid_point(phone.size, element_of(phone, "time.0730"))))
    press(phone, "ui.cancel")
    assert "0730" in phone.state.alarms
    phone.perform(LongPress(grid_point(phone.size, element_of(phone, "time.0730"))))
    press(phone, "ui.delete")
    assert list(phone.state.alarms) == ["0630"]


def test_the_list_of_alarms_is_bounded() -> None:
    phone = calm_phone()
    phone.state.alarms = {f"{hour:02d}30": False for hour in range(8, 8 + MAX_ALARMS)}
    show(phone, "new_alarm", "clock", text="06:30")
    assert not press(phone, "ui.save")


def test_buying() -> None:
    phone = calm_phone()
    product = phone.world.products[0]
    show(phone, "product", "shop", product)
    assert press(phone, "ui.cart")
    assert not element_of(phone, "ui.added").target
    for word in ("ui.buy", "ui.pay"):
        press(phone, word)
    assert phone.state.page.kind == "paid"
    assert ("pay", product) in phone.state.history


def test_search_in_the_shop_finds_by_either_name() -> None:
    phone = calm_phone()
    product = phone.world.products[0]
    for language in ("zh", "en"):
        show(phone, "shop", "shop", text=label(f"product.{product}", language))
        press(phone, "ui.search")
        assert f"product.{product}" in {e.concept for e in phone.elements()}
    show(phone, "shop_results", "shop", "zzz")
    assert "ui.no_results" in {e.concept for e in phone.elements()}


def test_loading_ends_by_waiting_and_then_the_dialog_opens() -> None:
    phone = calm_phone()
    phone.state.slow = frozenset({"clock"})
    phone.state.pending = {"clock": "permission"}
    phone.perform(Launch("Clock"))
    assert phone.state.page.kind == "loading"
    assert not phone.state.dialog
    assert phone.perform(Wait())
    assert phone.state.dialog == "permission"
    assert press(phone, "ui.deny")
    assert not phone.state.dialog
    phone.perform(Home())
    phone.perform(Launch("Clock"))
    assert phone.state.page.kind == "alarms"
    assert not phone.state.dialog


def test_a_person_can_log_in() -> None:
    phone = calm_phone()
    phone.state.logged_out = {"bank": "captcha"}
    phone.state.open_app("bank")
    press(phone, "ui.verify")
    assert (phone.state.page.kind, phone.state.logged_out) == ("plain", {})


def test_home_pages_and_banner() -> None:
    phone = calm_phone(seed=2)
    assert len(phone.world.home) == 2
    assert phone.perform(SWIPES["left"])
    assert not phone.perform(SWIPES["left"])
    assert next(e for e in phone.elements() if e.kind == "dots").state == "2/2"
    assert phone.perform(SWIPES["right"])
    person = phone.world.people[0]
    phone.state.banner = person
    press(phone, f"contact.{person}", "banner")
    assert (phone.state.page.kind, phone.state.page.arg) == ("chat", person)


def test_short_drags_are_no_swipes() -> None:
    phone = calm_phone()
    show(phone, "settings", "settings")
    assert not phone.perform(Swipe((500, 500), (500, 450)))
    assert phone.perform(SWIPES["up"])
    assert phone.perform(SWIPES["down"])
    assert not phone.perform(SWIPES["down"])


def test_capture_and_copy() -> None:
    phone = calm_phone()
    shot = phone.capture()
    picture = Image.open(BytesIO(shot.png))
    assert picture.size == (shot.width, shot.height) == phone.size
    assert shot.current_app == HOME_NAME
    twin = phone.copy()
    twin.perform(Launch("Clock"))
    twin.state.toggles["wlan"] = not twin.state.toggles["wlan"]
    assert phone.current_app == HOME_NAME
    assert phone.state.toggles["wlan"] != twin.state.toggles["wlan"]
    assert "en" in phone.name
    phone.close()
    phone.close()
