"""Apps that are a search box: the box, the results."""

from __future__ import annotations

import random

from autoglm.agent.devices.simulated.layout import BAR_BOTTOM, BAR_TOP, KEYBOARD, Layout
from autoglm.agent.devices.simulated.state import Page, PhoneState

from .common import field, keyboard, top_bar

BOX = (8, BAR_TOP + 4, 262, BAR_BOTTOM)
BUTTON = (268, BAR_TOP + 4, 354, BAR_BOTTOM)


def search_bar(layout: Layout, page: Page) -> None:
    """The box and its button at the upper edge."""
    field(layout, "search_box", BOX, page, "ui.hint_search")
    layout.add("button", BUTTON, concept="ui.search", size=22, align="center", tap=run_search)


def run_search(state: PhoneState) -> None:
    """Open the results of what the box holds; an empty box does nothing."""
    page = state.page
    if page.text:
        kind = "shop_results" if page.app == "shop" else "results"
        state.change(Page(page.kind, page.app, page.arg, page.scroll))
        state.push(Page(kind, page.app, page.text))
        state.note(f"search.{page.app}", page.text)


def search(layout: Layout, state: PhoneState) -> None:
    """The first page: box, button, the app's name, a few cards."""
    page = state.page
    search_bar(layout, page)
    layout.add("title", (24, 96, 336, 146), concept=f"app.{page.app}", size=26)
    _cards(layout, page.app, 156, layout.height - (KEYBOARD if page.focused else 14))
    keyboard(layout, page)


def results(layout: Layout, state: PhoneState) -> None:
    """What was found: the words that were searched for, and cards."""
    page = state.page
    top_bar(layout, "ui.results")
    query(layout, page.arg)
    _cards(layout, f"{page.app} {page.arg}", 152, layout.height - 14)


def query(layout: Layout, text: str) -> None:
    """The line that repeats what was searched for."""
    layout.add("note", (12, 92, 348, 140), text=text, size=21, pad=(44, 12), art="query")


def _cards(layout: Layout, name: str, top: float, lower: float) -> None:
    rng = random.Random(f"cards {layout.spec.seed} {name}")
    height = rng.choice((92, 104, 120))
    while top + height <= lower:
        layout.add("card", (12, top, 348, top + height - 10), art=f"result.{rng.randrange(1000)}")
        top += height
