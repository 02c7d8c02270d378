"""The closed set of lines an expert thinks and finishes with, in both languages."""

from __future__ import annotations

from dataclasses import dataclass

from autoglm.agent.devices.simulated.catalog import LANGUAGES, label

LINES: dict[str, tuple[str, str]] = {
    "open": ("打开 {}", "Open {}"),
    "tap": ("点击 {}", "Tap {}"),
    "hold": ("长按 {}", "Hold {}"),
    "down": ("向下找 {}", "Scroll to {}"),
    "up": ("向上找 {}", "Scroll up to {}"),
    "right": ("翻页找 {}", "Next page for {}"),
    "type": ("输入 {}", "Type {}"),
    "back": ("返回", "Go back"),
    "home": ("回到桌面", "Go home"),
    "wait": ("等待加载", "Wait for it"),
    "swipe": ("滑动", "Swipe"),
    "field": ("点击 输入框", "Tap the field"),
    "take_over": ("请你来登录", "Please log in"),
    "pay": ("支付 {}", "Pay for {}"),
    "missing": ("找不到 {}", "Cannot find {}"),
    "opened": ("{} 已打开", "{} is open"),
    "on": ("{} 已开启", "{} is on"),
    "off": ("{} 已关闭", "{} is off"),
    "set": ("已选 {}", "{} is set"),
    "calling": ("正在呼叫 {}", "Calling {}"),
    "sent": ("已发给 {}", "Sent to {}"),
    "found": ("已搜索 {}", "Searched {}"),
    "saved": ("已保存 {}", "Saved {}"),
    "deleted": ("已删除 {}", "Deleted {}"),
    "carted": ("已加购 {}", "{} in cart"),
    "bought": ("已购买 {}", "Bought {}"),
    "done": ("完成", "All done"),
    "page": ("当前是 {}", "This is {}"),
}
SPOTS: dict[str, tuple[str, str]] = {
    "home": ("桌面", "the home screen"),
    "dialog": ("弹窗", "a dialog"),
    "banner": ("新消息", "a new message"),
}
"""Names of things that carry no label."""


@dataclass(frozen=True, slots=True)
class Talk:
    """Speaks one language: "zh" or "en"."""

    language: str

    def line(self, key: str, word: str = "") -> str:
        """A line of ``LINES`` about ``word``, already in this language."""
        return LINES[key][LANGUAGES.index(self.language)].format(word)

    def about(self, key: str, concept: str) -> str:
        """A line about a concept of the catalogue."""
        return self.line(key, label(concept, self.language))

    def spot(self, key: str) -> str:
        """The name of a thing without a label."""
        return SPOTS[key][LANGUAGES.index(self.language)]


def is_honest(message: str) -> bool:
    """Whether a final message says that something is not there."""
    return message.startswith(tuple(pattern.format("").strip() for pattern in LINES["missing"]))
