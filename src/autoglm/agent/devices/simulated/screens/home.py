"""The home screen: pages of icons, a dock, dots, a message's banner."""

from __future__ import annotations

from autoglm.agent.devices.simulated.layout import Effect, Layout
from autoglm.agent.devices.simulated.state import Page, PhoneState
from autoglm.agent.devices.simulated.world import HOME_COLUMNS

CELL = 90
DOCK_HEIGHT = 106


def opens(app: str) -> Effect:
    """A tap that opens ``app``."""
    return lambda state: state.open_app(app)


def home(layout: Layout, state: PhoneState) -> None:
    """Icons of the page that ``scroll`` names, and the dock."""
    look, world = layout.world.look, layout.world
    if state.banner:
        _banner(layout, state.banner)
    for index, app in enumerate(world.home[state.page.scroll]):
        left = index % HOME_COLUMNS * CELL + look.home_shift
        top = look.home_top + index // HOME_COLUMNS * look.home_pitch
        _icon(layout, app, left, top)
    pages = len(world.home)
    dock_top = layout.height - DOCK_HEIGHT - 8
    layout.add("dots", (140, dock_top - 18, 220, dock_top - 4), state=f"{state.page.scroll + 1}/{pages}")
    for index, app in enumerate(world.dock):
        _icon(layout, app, index * CELL + look.home_shift, dock_top + 4)


def _icon(layout: Layout, app: str, left: float, top: float) -> None:
    layout.add(
        "icon",
        (left + 2, top, left + CELL - 2, top + 96),
        concept=f"app.{app}",
        size=21,
        align="center",
        area=(left + 2, top + 64, left + CELL - 2, top + 94),
        art=app,
        tap=opens(app),
    )


def _banner(layout: Layout, person: str) -> None:
    def read(state: PhoneState) -> None:
        state.open_app("messages")
        state.slow -= {"messages"}
        state.stack = (Page("home"), Page("messages", "messages"), Page("chat", "messages", person))
        state.note("banner", person)

    layout.add("banner", (10, 32, 350, 90), concept=f"contact.{person}", size=21, pad=(64, 60), tap=read)
