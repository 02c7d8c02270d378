"""The screens of the simulated phone: each turns the state into placed elements."""

from __future__ import annotations

from collections.abc import Callable

from autoglm.agent.devices.simulated.layout import Layout, Placed
from autoglm.agent.devices.simulated.state import PhoneState
from autoglm.agent.devices.simulated.world import World

from . import chat, editor, home, people, plain, search, settings, shop
from .common import go_back
from .overlay import DIALOGS, dialog

__all__ = ["DIALOGS", "SCREENS", "go_back", "placed"]

SCREENS: dict[str, Callable[[Layout, PhoneState], None]] = {
    "home": home.home,
    "settings": settings.settings,
    "section": settings.section,
    "choice": settings.choice,
    "contacts": people.contacts,
    "contact": people.contact,
    "call": people.call,
    "messages": chat.messages,
    "chat": chat.chat,
    "search": search.search,
    "results": search.results,
    "alarms": editor.alarms,
    "new_alarm": editor.new_alarm,
    "notes": editor.notes,
    "new_note": editor.new_note,
    "shop": shop.shop,
    "shop_results": shop.shop_results,
    "product": shop.product,
    "order": shop.order,
    "paid": shop.paid,
    "plain": plain.plain,
    "login": plain.login,
    "captcha": plain.captcha,
    "loading": plain.loading,
}
"""``Page.kind`` -> what draws it."""


def placed(world: World, state: PhoneState) -> tuple[Placed, ...]:
    """Everything on the screen, in drawing order."""
    layout = Layout(world)
    SCREENS[state.page.kind](layout, state)
    if state.dialog:
        dialog(layout, state)
    return tuple(layout.items)
