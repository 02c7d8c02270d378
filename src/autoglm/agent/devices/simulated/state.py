"""What changes on one phone: the stack of pages, settings, alarms, messages, and what was done."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from .catalog import CHOICE_VALUES, CHOICES, LOGIN_APPS, TIMES, TOGGLES
from .world import CHAT_LINES, NOTE_LINES, World

MAX_ALARMS = 7
MAX_TEXT = 60
"""Characters a text field keeps."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page: ``kind`` names the screen in ``screens``; ``arg`` what it is about; ``text`` what its field holds."""

    kind: str
    app: str = ""
    arg: str = ""
    scroll: int = 0
    text: str = ""
    focused: bool = False


@dataclass(slots=True)
class PhoneState:
    """The whole changeable state.

    Attributes:
        stack: pages, the home screen first, the visible one last.
        dialog: "" or "permission", "update", "delete.HHMM": covers the page.
        banner: person whose message is announced on the home screen; "" for none.
        pending: app -> dialog that opens when the app is first in front.
        slow: apps that show a loading page when next opened.
        logged_out: apps that ask for a log-in ("login" or "captcha").
        history: what was done, oldest first, as (kind, key) pairs: for checkers.
    """

    stack: tuple[Page, ...]
    toggles: dict[str, bool]
    choices: dict[str, str]
    alarms: dict[str, bool]
    chats: dict[str, tuple[tuple[bool, str], ...]]
    notes: tuple[str, ...]
    starred: frozenset[str]
    pending: dict[str, str]
    slow: frozenset[str]
    logged_out: dict[str, str]
    cart: frozenset[str] = frozenset()
    done: frozenset[str] = frozenset()
    dialog: str = ""
    banner: str = ""
    history: tuple[tuple[str, str], ...] = ()

    @classmethod
    def initial(cls, world: World) -> PhoneState:
        """The state of the phone when it is switched on."""
        rng = random.Random(f"state {world.spec.seed}")
        language = world.spec.language
        choosable = sorted(world.installed - {"settings"})
        return cls(
            stack=(Page("home"),),
            toggles={key: rng.random() < 0.5 for key in TOGGLES},
            choices={key: rng.choice(CHOICE_VALUES[key]) for key in CHOICES},
            alarms={time: rng.random() < 0.5 for time in sorted(rng.sample(TIMES, rng.randint(1, 5)))},
            chats={person: _small_talk(rng, language) for person in world.people},
            notes=tuple(rng.sample(NOTE_LINES[language], rng.randint(0, 3))),
            starred=frozenset(rng.sample(world.people, rng.randint(0, 3))),
            pending={app: rng.choice(("permission", "update")) for app in choosable if rng.random() < 0.15},
            slow=frozenset(app for app in choosable if rng.random() < 0.12),
            logged_out={a: rng.choice(("login", "captcha")) for a in LOGIN_APPS if rng.random() < 0.6},
            banner=rng.choice(world.people) if rng.random() < 0.25 else "",
        )

    @property
    def page(self) -> Page:
        """The page in front."""
        return self.stack[-1]

    def copy(self) -> PhoneState:
        """An independent copy."""
        return replace(
            self,
            toggles=dict(self.toggles),
            choices=dict(self.choices),
            alarms=dict(self.alarms),
            chats=dict(self.chats),
            pending=dict(self.pending),
            logged_out=dict(self.logged_out),
        )

    def change(self, page: Page) -> None:
        """Replace the page in front."""
        self.stack = (*self.stack[:-1], page)

    def push(self, page: Page) -> None:
        """Open a page on top of the one in front."""
        self.stack = (*self.stack, page)

    def pop(self) -> None:
        """Go back one page; the home screen stays."""
        self.stack = self.stack[:-1] or self.stack

    def note(self, kind: str, key: str = "") -> None:
        """Record that something was done."""
        self.history = (*self.history[-63:], (kind, key))

    def open_app(self, app: str) -> None:
        """Bring ``app`` to the front on its first page, behind a loading page if it is slow today."""
        kind = self.logged_out.get(app) or FIRST_PAGES.get(app, "plain")
        self.stack = (Page("home"), Page(kind, app))
        if app in self.slow:
            self.slow -= {app}
            self.push(Page("loading", app))
        self.banner = ""
        self.note("open", app)

    def settle(self) -> None:
        """Open the dialog that waits for the app in front, once its page is there."""
        page = self.page
        if not self.dialog and page.kind != "loading" and page.app in self.pending:
            self.dialog = self.pending.pop(page.app)


FIRST_PAGES = {
    "settings": "settings",
    "contacts": "contacts",
    "messages": "messages",
    "clock": "alarms",
    "shop": "shop",
    "notes": "notes",
    "browser": "search",
    "maps": "search",
    "music": "search",
    "video": "search",
    "food": "search",
    "news": "search",
}
"""The page an app opens with; apps not named here open a plain page."""


def _small_talk(rng: random.Random, language: str) -> tuple[tuple[bool, str], ...]:
    return tuple((rng.random() < 0.5, rng.choice(CHAT_LINES[language])) for _ in range(rng.randint(0, 4)))
