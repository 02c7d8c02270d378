"""What is fixed on one phone: its apps, people, products and looks, all drawn from the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .catalog import ALWAYS_INSTALLED, APPS, PEOPLE, PRODUCTS, SECTIONS, TOGGLES
from .spec import PhoneSpec

DOCK = 4
HOME_COLUMNS, HOME_ROWS = 4, 5

CHAT_LINES = {
    "zh": (
        "你好",
        "在忙吗",
        "好的",
        "收到",
        "周末见",
        "没问题",
        "路上小心",
        "谢谢你",
        "早点休息",
        "改天聊",
        "哈哈",
        "开会呢",
    ),
    "en": (
        "Hi there",
        "Are you busy",
        "Okay",
        "Got it",
        "See you soon",
        "No problem",
        "Take care",
        "Thanks",
        "Later",
        "Ha ha",
    ),
}
NOTE_LINES = {
    "zh": ("买菜清单", "读书笔记", "周计划", "密码提示", "旅行准备", "会议要点"),
    "en": ("Shopping list", "Reading", "Week plan", "Ideas", "Packing", "Minutes"),
}


@dataclass(frozen=True, slots=True)
class Look:
    """Sizes in dp (the screen is 360 dp wide) and hues (degrees) of one phone."""

    row: int
    product_row: int
    home_top: int
    home_pitch: int
    home_shift: int
    inset: int
    accent: int
    wallpaper: int
    icon_shape: int
    icon_hues: dict[str, int]
    dialog_top: int
    dialog_swapped: bool
    cards: bool


@dataclass(frozen=True, slots=True)
class World:
    """The fixed content. ``sections`` maps a section to its toggles in drawn order."""

    spec: PhoneSpec
    look: Look
    home: tuple[tuple[str, ...], ...]
    dock: tuple[str, ...]
    sections: dict[str, tuple[str, ...]]
    people: tuple[str, ...]
    chats: tuple[str, ...]
    products: tuple[str, ...]
    prices: dict[str, int]
    clock_text: str

    @property
    def installed(self) -> frozenset[str]:
        """Keys of the apps on this phone."""
        return frozenset(self.dock).union(*self.home)

    @classmethod
    def of(cls, spec: PhoneSpec) -> World:
        """The world of a phone; the language and the theme change no draw."""
        rng = random.Random(f"world {spec.seed}")
        apps = _installed(rng)
        first = rng.randint(max(8, len(apps) - DOCK - 20), min(20, len(apps) - DOCK))
        pages = (apps[DOCK : DOCK + first], apps[DOCK + first :])
        order = rng.sample(sorted(SECTIONS), len(SECTIONS))
        people = rng.sample(sorted(PEOPLE), rng.randint(6, 16))
        products = rng.sample(sorted(PRODUCTS), rng.randint(7, 15))
        return cls(
            spec=spec,
            look=_look(rng),
            home=tuple(tuple(page) for page in pages if page),
            dock=tuple(apps[:DOCK]),
            sections={key: tuple(rng.sample(inside, len(inside))) for key in order for inside in [_inside(key)]},
            people=tuple(people),
            chats=tuple(rng.sample(people, len(people))),
            products=tuple(products),
            prices={key: rng.randint(3, 299) for key in sorted(PRODUCTS)},
            clock_text=f"{rng.randint(0, 23)}:{rng.randint(0, 59):02d}",
        )


def _installed(rng: random.Random) -> list[str]:
    others = sorted(set(APPS) - set(ALWAYS_INSTALLED))
    apps = [*ALWAYS_INSTALLED, *rng.sample(others, rng.randint(9, len(others) - 1))]
    rng.shuffle(apps)
    return apps


def _inside(section: str) -> list[str]:
    return [key for key, (_, _, parent) in TOGGLES.items() if parent == section]


def _look(rng: random.Random) -> Look:
    hues = {app: rng.randrange(0, 360, 15) for app in sorted(APPS)}
    return Look(
        row=rng.randint(54, 66),
        product_row=rng.randint(76, 92),
        home_top=rng.randint(96, 108),
        home_pitch=rng.randint(100, 105),
        home_shift=rng.randint(-2, 2),
        inset=rng.choice((0, 10, 12)),
        accent=rng.choice((205, 215, 230, 160, 25, 280)),
        wallpaper=rng.randrange(1 << 16),
        icon_shape=rng.randrange(3),
        icon_hues=hues,
        dialog_top=rng.randint(250, 420),
        dialog_swapped=rng.random() < 0.5,
        cards=rng.random() < 0.5,
    )
