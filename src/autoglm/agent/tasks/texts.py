"""What people type: a bank of real lines, and random combinations so that copying has to be learned."""

# ruff: noqa: E501 (tables)

from __future__ import annotations

import random
from collections.abc import Mapping

MESSAGES: dict[str, tuple[str, ...]] = {
    "zh": (
        "我到家了", "我要迟到了", "晚上一起吃饭", "明天见", "生日快乐", "会议改到三点", "谢谢你", "周末去爬山吗", "文件已发",
        "稍等一下", "辛苦了", "新年好", "我在路上", "帮我带杯咖啡", "今天加班", "记得带伞", "几点出发", "路上堵车", "到了告诉我",
        "孩子睡了",
    ),
    "en": (
        "I am late", "I am home", "see you tomorrow", "thank you", "happy birthday", "on my way", "call me later",
        "good morning", "are you free", "meeting at three", "well done", "good luck", "bring some milk", "stuck in traffic",
        "see you at noon", "take an umbrella", "dinner at eight", "the train is late", "I miss you", "sounds good",
    ),
}  # fmt: skip
QUERIES: dict[str, tuple[str, ...]] = {
    "zh": (
        "耳机", "火锅", "手机壳", "电影票", "北京天气", "运动鞋", "奶茶", "轻音乐", "咖啡", "雨伞", "机票", "蓝牙音箱", "新闻",
        "附近的酒店", "充电器", "地铁线路", "红烧肉", "儿童绘本",
    ),
    "en": (
        "headphones", "hot pot", "phone case", "movie tickets", "running shoes", "coffee", "umbrella", "flights", "news",
        "hotels nearby", "charger", "milk tea", "jazz music", "pizza", "train times", "weather today", "green salad",
    ),
}  # fmt: skip
NOTES: dict[str, tuple[str, ...]] = {
    "zh": ("买牛奶和面包", "周五交报告", "给妈妈打电话", "下午取快递", "还书", "预约牙医", "浇花", "订火车票", "交水电费", "喂猫"),
    "en": ("buy milk", "pay the rent", "call the bank", "water plants", "return books", "book a table", "feed the cat", "fix the bike"),
}  # fmt: skip
CHARACTERS = (
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民"
    "得经十三之进着等部度家电力里如水化高自二理起小物现实加量都两体制机当使点从业本去把性好应开它合还因由其些然前外天政四日那"
    "社义事平形相全表间样与关各重新线内数正心反你明看原又么利比或但质气第向道命此变条只没结解问意建月公无系军很情者最立代想已"
    "通并提直题党程展五果料象员革位入常文总次品式活设及管特件长求老头基资边流路级少图山统接知较将组见计别她手角期根论运农指几"
    "九区强放决西被干做必战先回则任取据处南给色光门即保治北造百规热领七海口东导器压志世金增争济阶油思术极交受联什认六共权收证"
)  # fmt: skip
_WORDS = (
    "the a to of and in is it you that he was for on are with as his they be at one have this from or had by hot "
    "but some what there we can out other were all your when up use word how said an each she which do their time "
    "if will way about many then them would write like so these her long make thing see him two has look more day "
    "could go come did my sound no most number who over know water than call first people may down side been now "
    "find any new work part take get place made live where after back little only round man year came show every "
    "good me give our under name very through just form much great think say help low line before turn cause same "
    "mean differ move right boy old too does tell set three want air well also play small end put home read hand "
    "port large spell add even land here must big high such follow act why ask men change went light kind off need "
    "house picture try us again animal point mother world near build self earth father "
)
WORDS: tuple[str, ...] = tuple(_WORDS.split())
MAX_CHARACTERS = 8
MAX_LETTERS = 18
"""Longest typed text: fits the narrowest field at the largest font."""


def random_text(rng: random.Random, language: str, bank: Mapping[str, tuple[str, ...]]) -> str:
    """A line of the bank or, half of the time, one that nobody has written before."""
    if rng.random() < 0.5:
        return rng.choice(bank[language])
    if language == "zh":
        return "".join(rng.choice(CHARACTERS) for _ in range(rng.randint(2, MAX_CHARACTERS)))
    words: list[str] = []
    for _ in range(rng.randint(1, 4)):
        word = rng.choice(WORDS)
        if len(" ".join([*words, word])) > MAX_LETTERS:
            break
        words.append(word)
    return " ".join(words)
