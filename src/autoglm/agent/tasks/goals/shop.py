"""Goals in the shop."""

from __future__ import annotations

from dataclasses import dataclass

from autoglm.agent.devices.simulated import SimulatedPhone
from autoglm.agent.devices.simulated.catalog import label
from autoglm.agent.tasks.base import MISSING, SUCCESS, Decision, Goal
from autoglm.agent.tasks.talk import Talk
from autoglm.agent.tasks.view import View

from .steps import back, enter, find, finish, tap, tap_word


def product_ending(phone: SimulatedPhone, product: str) -> str:
    """Missing when the shop does not sell it."""
    return SUCCESS if product in phone.world.products else MISSING


def reach_product(view: View, talk: Talk, last: str, product: str) -> Decision | None:
    """Open a product's page. None when it is in front."""
    step = enter(view, talk, last, "shop")
    if step is not None:
        return step
    concept = f"product.{product}"
    if view.title == concept:
        return None
    if view.title == "ui.results":
        element = view.find("product", concept)
        return tap(view, element, talk.about("tap", concept)) if element else back(talk)
    if view.find("search_box"):
        return find(view, talk, last, "product", concept)
    return back(talk)


@dataclass(frozen=True, slots=True)
class ViewProduct(Goal):
    """Open a product's page."""

    product: str

    def decide(self, view: View, talk: Talk, last: str) -> Decision:
        """Find it in the list, tap it."""
        step = reach_product(view, talk, last, self.product)
        return step or finish(talk.about("opened", f"product.{self.product}"))

    def ending(self, phone: SimulatedPhone) -> str:
        """Missing when the shop does not sell it."""
        return product_ending(phone, self.product)

    def reached(self, phone: SimulatedPhone, _message: str, _talk: Talk) -> bool:
        """Its page is in front."""
        return (phone.state.page.kind, phone.state.page.arg) == ("product", self.product)


@dataclass(frozen=True, slots=True)
class IntoCart(Goal):
    """Put a product into the cart."""

    product: str

    def decide(self, view: View, talk: Talk, last: str) -> Decision:
        """Open its page, tap the button."""
        step = reach_product(view, talk, last, self.product)
        if step is not None:
            return step
        if view.find("button", "ui.added"):
            return finish(talk.about("carted", f"product.{self.product}"))
        return tap_word(view, talk, "ui.cart")

    def ending(self, phone: SimulatedPhone) -> str:
        """Missing when the shop does not sell it."""
        return product_ending(phone, self.product)

    def reached(self, phone: SimulatedPhone, _message: str, _talk: Talk) -> bool:
        """It is in the cart."""
        return self.product in phone.state.cart


@dataclass(frozen=True, slots=True)
class Buy(Goal):
    """Buy a product: the payment is announced as sensitive."""

    product: str

    def decide(self, view: View, talk: Talk, last: str) -> Decision:
        """Open its page, buy, pay."""
        concept = f"product.{self.product}"
        wanted = view.find("note", concept) is not None
        if not view.dialog and view.title == "ui.paid" and wanted:
            return finish(talk.about("bought", concept))
        if not view.dialog and view.title == "ui.order" and wanted:
            pay = view.find("pay_button")
            line = talk.line("pay", label(concept, talk.language))
            return tap(view, pay, line, line) if pay else back(talk)
        return reach_product(view, talk, last, self.product) or tap_word(view, talk, "ui.buy")

    def ending(self, phone: SimulatedPhone) -> str:
        """Missing when the shop does not sell it."""
        return product_ending(phone, self.product)

    def reached(self, phone: SimulatedPhone, _message: str, _talk: Talk) -> bool:
        """It is paid for."""
        return ("pay", self.product) in phone.state.history
