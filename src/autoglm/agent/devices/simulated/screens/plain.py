"""Apps without pages of their own, log-in pages, the loading page."""

from __future__ import annotations

from autoglm.agent.devices.simulated.catalog import APP_ACTIONS
from autoglm.agent.devices.simulated.layout import Effect, Layout
from autoglm.agent.devices.simulated.state import Page, PhoneState

from .common import top_bar


def plain(layout: Layout, state: PhoneState) -> None:
    """A title, a picture, and the app's one button if it has one."""
    app = state.page.app
    top_bar(layout, f"app.{app}")
    for index in range(3):
        top = 104 + index * 118
        layout.add("card", (16, top, 344, top + 106), art=f"result.{len(app) * 37 + index * 13}")
    if app in APP_ACTIONS:
        low = layout.height - 150
        finished = app in state.done
        layout.add(
            "button",
            (80, low, 280, low + 58),
            concept="ui.done" if finished else f"do.{app}",
            state="on" if finished else "",
            align="center",
            tap=None if finished else _does(app),
        )


def login(layout: Layout, _state: PhoneState) -> None:
    """Account and password: for the person."""
    top_bar(layout, "ui.login")
    for index, hint in enumerate(("hint_account", "hint_password")):
        top = 200 + index * 80
        layout.add("note", (30, top, 330, top + 56), concept=f"ui.{hint}", size=20, pad=(18, 18), art="field")
    layout.add("button", (30, 380, 330, 436), concept="ui.verify", align="center", tap=_enter)


def captcha(layout: Layout, _state: PhoneState) -> None:
    """A picture puzzle: for the person."""
    top_bar(layout, "ui.captcha")
    layout.add("card", (30, 150, 330, 350), art="captcha")
    layout.add("button", (30, 380, 330, 436), concept="ui.verify", align="center", tap=_enter)


def loading(layout: Layout, _state: PhoneState) -> None:
    """The app is starting."""
    layout.add("spinner", (130, 320, 230, 400))
    layout.add("note", (80, 410, 280, 452), concept="ui.loading", align="center")


def _does(app: str) -> Effect:
    def act(state: PhoneState) -> None:
        state.done |= {app}
        state.note("do", app)

    return act


def _enter(state: PhoneState) -> None:
    """The person has proved who they are: the app opens."""
    app = state.page.app
    state.logged_out.pop(app, None)
    state.stack = (Page("home"), Page("plain", app))
