"""The apps a simulated phone may have: key -> (Chinese, English)."""

from __future__ import annotations

APPS: dict[str, tuple[str, str]] = {
    "settings": ("设置", "Settings"),
    "contacts": ("通讯录", "Contacts"),
    "messages": ("短信", "Messages"),
    "browser": ("浏览器", "Browser"),
    "clock": ("时钟", "Clock"),
    "shop": ("商城", "Shop"),
    "notes": ("便签", "Notes"),
    "camera": ("相机", "Camera"),
    "photos": ("相册", "Photos"),
    "calendar": ("日历", "Calendar"),
    "music": ("音乐", "Music"),
    "video": ("视频", "Video"),
    "weather": ("天气", "Weather"),
    "maps": ("地图", "Maps"),
    "mail": ("邮箱", "Mail"),
    "files": ("文件", "Files"),
    "calculator": ("计算器", "Calc"),
    "wallet": ("钱包", "Wallet"),
    "bank": ("银行", "Bank"),
    "health": ("健康", "Health"),
    "news": ("新闻", "News"),
    "travel": ("旅行", "Travel"),
    "food": ("外卖", "Food"),
    "games": ("游戏", "Games"),
}

ALWAYS_INSTALLED = ("settings", "contacts", "messages", "browser", "clock", "shop", "notes")
"""Apps with pages of their own: every phone has them."""

SEARCH_APPS = ("browser", "maps", "music", "video", "food", "news")
"""Apps whose page is a search box."""

LOGIN_APPS = ("bank", "wallet", "travel")
"""Apps that may ask for a log-in."""

APP_ACTIONS: dict[str, tuple[str, str]] = {
    "camera": ("拍照", "Shoot"),
    "photos": ("备份", "Back up"),
    "calendar": ("今天", "Today"),
    "weather": ("刷新", "Refresh"),
    "mail": ("收信", "Inbox"),
    "files": ("清理", "Clean"),
    "health": ("开始跑步", "Start run"),
    "games": ("开始游戏", "Play now"),
}
"""The one big button on the page of a plain app."""
