"""The page in a real Chromium: what a person would see and do, from end to end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from autoglm.agent.devices.simulated import PhoneSpec, SimulatedPhone
from tests.server.console.browser import DESKTOP, PHONE, Page, chromium
from tests.server.console.live import Console
from tests.server.console.test_api import buying

SEED = 11


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(browser: Page, expert: Console) -> Iterator[Page]:
    """The console, opened at desktop size in English; the browser must not have complained."""
    browser.look(DESKTOP)
    phone = expert.phone(seed=SEED, language="en", theme="light")
    browser.open(f"{expert.url}/console/#{phone}")
    browser.speak("en")
    browser.script("document.getElementById('slow').checked = false")
    yield browser
    assert browser.complaints() == []


def test_a_typed_task_is_done_before_the_eyes(page: Page, expert: Console) -> None:
    chips = [chip.text for chip in page.all("#chips button")]
    page.type_task(chips[1])
    assert page.ended() == "done, checked"
    assert page.text(".run-head h3") == chips[1]
    steps = page.all(".step")
    assert len(steps) >= 2
    page.wait(lambda: len(page.all(".fall")) == len(steps), "a waterfall for each step")
    page.wait(
        lambda: page.script("return [...document.querySelectorAll('.shot img')].every((i) => i.naturalWidth > 0)"),
        "a picture of each step",
    )
    assert len(page.all(".fall:first-of-type rect")) >= 5
    assert page.text("#thought") == page.text(".run-end")
    assert page.text("#latency") not in ("", "–")
    page.shot("task-done")


def test_the_mouse_works_the_phone(page: Page) -> None:
    icon = next(e for e in SimulatedPhone(PhoneSpec.random(SEED, "en", "light")).elements() if e.kind == "icon")
    spec = PhoneSpec.random(SEED, "en", "light")
    left, top, right, bottom = icon.box
    before = page.script("return document.getElementById('screen').src")
    assert page.text("#app-name") == "System Home"
    page.tap(((left + right) / 2 / spec.width, (top + bottom) / 2 / spec.height))
    page.wait(lambda: page.text("#app-name") not in ("", "System Home"), "an app in front")
    page.wait(lambda: page.script("return document.getElementById('screen').src") != before, "another picture")
    page.click("#home")
    page.wait(lambda: page.text("#app-name") == "System Home", "the home screen")


def test_the_keyboard_works_the_phone(page: Page, expert: Console) -> None:
    phone = page.script("return location.hash.slice(1)")
    page.script("document.getElementById('glass').focus()")
    page.one("#glass").send_keys("\ue012", "\ue007")  # arrow left, Enter
    with expert.watch(phone) as events:
        tap = next(event for event in events if event["type"] == "input")
    assert (tap["gesture"], tap["points"]) == ("tap", [[470, 500]])


def test_a_sensitive_step_is_asked_for(page: Page, expert: Console) -> None:
    phone, text = buying(expert)
    page.open(f"{expert.url}/console/#{phone}")
    page.suggestion(text)
    page.wait(lambda: page.one("#ask").is_displayed(), "the question")
    assert page.text("#ask-title") == "Allow this step?"
    assert page.script("return document.activeElement.id") == "deny"
    page.shot("question")
    page.click("#allow")
    assert page.ended() == "done, checked"
    assert not page.one("#ask").is_displayed()


def test_a_refusal_ends_the_task(page: Page, expert: Console) -> None:
    phone, text = buying(expert)
    page.open(f"{expert.url}/console/#{phone}")
    page.suggestion(text)
    page.wait(lambda: page.one("#ask").is_displayed(), "the question")
    page.click("#deny")
    assert page.ended() == "denied"


def test_the_model_cannot_write_markup(page: Page) -> None:
    attack = "<img src=x onerror=window.owned=1><script>window.owned=1</script>"
    page.type_task(f'say: <think>{attack}</think><answer>finish(message="{attack.replace(chr(34), "")}")')
    page.ended()
    assert page.text("#thought") == attack
    assert attack in page.text(".step-think")
    assert page.script("return window.owned ?? null") is None
    assert page.script("return document.querySelectorAll('main script, #history img[src=x]').length") == 0


def test_a_person_takes_over_and_hands_back(page: Page) -> None:
    page.script("document.getElementById('slow').checked = true")
    page.suggestion(page.first_suggestion())
    page.wait(lambda: page.one("#take-over").is_displayed(), "the button")
    page.click("#take-over")
    page.wait(lambda: page.one("#glass-note").is_displayed(), "the pause")
    page.tap((0.5, 0.005))  # the status bar: allowed, and without effect
    page.wait(lambda: page.text("#take-over") == "Hand back", "the way back")
    page.click("#take-over")
    assert page.ended() == "done, checked"


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_small_window(page: Page, language: str, dark: bool) -> None:
    page.look(PHONE, dark=dark)
    page.speak(language)
    page.new_phone(SEED, language, "dark" if dark else "light")
    page.suggestion(page.first_suggestion())
    assert page.ended() == {"zh": "已完成，已核对", "en": "done, checked"}[language]
    assert page.script("return document.documentElement.scrollWidth") <= PHONE[0]
    for control in page.all("button, input, select, summary"):
        if control.is_displayed():
            assert control.rect["height"] >= 16, control.get_attribute("outerHTML")
    theme = "dark" if dark else "light"
    page.shot(f"small-{language}-{theme}", whole=True)
    page.look(DESKTOP, dark=dark)
    page.shot(f"wide-{language}-{theme}")


def test_a_phone_that_is_removed_elsewhere(page: Page, expert: Console) -> None:
    phone = page.script("return location.hash.slice(1)")
    assert expert.http.delete(f"/phones/{phone}").status_code == 204
    page.wait(lambda: page.one("#toast").is_displayed(), "a word about it")
    assert "removed" in page.text("#toast")
