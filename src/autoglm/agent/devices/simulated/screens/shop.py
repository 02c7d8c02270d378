"""The shop: products, one product, the order, the payment."""

from __future__ import annotations

from autoglm.agent.devices.simulated.catalog import LABELS
from autoglm.agent.devices.simulated.layout import LIST_TOP, Effect, Layout
from autoglm.agent.devices.simulated.state import Page, PhoneState

from .common import keyboard, scrolling_list, top_bar
from .search import query, search_bar
from .settings import goes


def shop(layout: Layout, state: PhoneState) -> None:
    """A search box over the list of products."""
    page = state.page
    search_bar(layout, page)
    scrolling_list(
        layout,
        page,
        layout.world.products,
        _Row(layout),
        height=layout.world.look.product_row,
        top=LIST_TOP + 2,
    )
    keyboard(layout, page)


def shop_results(layout: Layout, state: PhoneState) -> None:
    """Products whose name, in either language, the searched words contain or are part of."""
    page = state.page
    top_bar(layout, "ui.results")
    query(layout, page.arg)
    found = [key for key in layout.world.products if _matches(key, page.arg)][:4]
    row, top, height = _Row(layout), 148, layout.world.look.product_row
    for index, key in enumerate(found):
        row(key, (0, top + index * height, 360, top + (index + 1) * height))
    if not found:
        layout.add("note", (60, 220, 300, 264), concept="ui.no_results", size=20, align="center")


def product(layout: Layout, state: PhoneState) -> None:
    """One product with its price: into the cart, or buy now."""
    key = state.page.arg
    top_bar(layout, f"product.{key}")
    layout.add("card", (30, 100, 330, 330), art=f"product.{key}")
    _price(layout, key, 344)
    low = layout.height - 84
    inside = key in state.cart
    layout.add(
        "button",
        (14, low, 176, low + 54),
        concept="ui.added" if inside else "ui.cart",
        state="on" if inside else "",
        size=21,
        align="center",
        pad=(4, 4),
        tap=None if inside else _into_cart(key),
    )
    order_page = Page("order", "shop", key)
    layout.add("button", (184, low, 346, low + 54), concept="ui.buy", size=22, align="center", tap=goes(order_page))


def order(layout: Layout, state: PhoneState) -> None:
    """What will be paid for, and the button that pays."""
    key = state.page.arg
    top_bar(layout, "ui.order")
    layout.add("note", (20, 110, 340, 170), concept=f"product.{key}", size=23, pad=(20, 20), art="note")
    _price(layout, key, 184)
    low = layout.height - 90
    layout.add("pay_button", (40, low, 320, low + 58), concept="ui.pay", size=23, align="center", tap=_pay(key))


def paid(layout: Layout, state: PhoneState) -> None:
    """The receipt."""
    top_bar(layout, "ui.paid")
    layout.add("card", (130, 120, 230, 220), art="tick")
    key = state.page.arg
    layout.add("note", (20, 240, 340, 300), concept=f"product.{key}", size=23, align="center")


class _Row:
    """Draws one product of a list."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def __call__(self, key: str, box: tuple[float, float, float, float]) -> None:
        page = Page("product", "shop", key)
        area = (96.0, box[1] + 8, box[2] - 80, box[3] - 8)
        price = str(self.layout.world.prices[key])
        self.layout.add(
            "product", box, concept=f"product.{key}", size=21, area=area, art=f"{key} {price}", tap=goes(page)
        )


def _price(layout: Layout, key: str, top: float) -> None:
    text = f"¥ {layout.world.prices[key]}"
    layout.add("note", (30, top, 330, top + 46), text=text, size=25, pad=(4, 4), art="price")


def _matches(key: str, words: str) -> bool:
    wanted = words.casefold()
    return any(name in wanted or wanted in name for name in (part.casefold() for part in LABELS[f"product.{key}"]))


def _into_cart(key: str) -> Effect:
    def add(state: PhoneState) -> None:
        state.cart |= {key}

    return add


def _pay(key: str) -> Effect:
    def pay(state: PhoneState) -> None:
        state.change(Page("paid", "shop", key))
        state.note("pay", key)

    return pay
