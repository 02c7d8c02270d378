"""What an expert may see: the drawn elements and the name of the app in front. Nothing hidden."""

from __future__ import annotations

from autoglm.agent.devices.simulated import HOME_NAME, Element, SimulatedPhone
from autoglm.agent.devices.simulated.catalog import app_named


class View:
    """One screen, read.

    Attributes:
        size: width and height in pixels.
        app: key of the app in front; "" on the home screen.
        title: concept of the page's title; "" for none.
        dialog: concept of the open dialog; "" for none.
    """

    def __init__(self, phone: SimulatedPhone) -> None:
        self.size = phone.size
        self.current_app = phone.current_app
        self.elements = phone.elements()
        self.app = "" if self.current_app == HOME_NAME else app_named(self.current_app) or ""
        self.dialog = self._concept_of("dialog")
        self.title = self._concept_of("title")

    def _concept_of(self, kind: str) -> str:
        return next((element.concept for element in self.elements if element.kind == kind), "")

    def find(self, kind: str, concept: str = "") -> Element | None:
        """The first element of a kind (and a concept)."""
        matching = (e for e in self.elements if e.kind == kind and (not concept or e.concept == concept))
        return next(matching, None)

    def button(self, concept: str) -> Element | None:
        """A button that can be tapped now."""
        found = (e for e in self.elements if e.kind == "button" and e.concept == concept and e.target)
        return next(found, None)

    @property
    def loading(self) -> bool:
        """The app is still starting."""
        return self.find("spinner") is not None

    @property
    def keyboard(self) -> bool:
        """A text field has the focus."""
        return self.find("keyboard") is not None

    @property
    def scroll(self) -> str:
        """Where the list stands: "top", "middle", "bottom"; "" when it does not scroll."""
        bar = self.find("scrollbar")
        return bar.state if bar else ""

    @property
    def typed(self) -> str:
        """What the page's field holds; "" for a hint."""
        field = self.field
        return "" if field is None or field.concept else field.text

    @property
    def field(self) -> Element | None:
        """The page's text field."""
        return self.find("text_field") or self.find("search_box")
