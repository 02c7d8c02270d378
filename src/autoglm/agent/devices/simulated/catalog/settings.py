"""What the settings app shows: sections, the toggles and choices inside them."""

from __future__ import annotations

SECTIONS: dict[str, tuple[str, str]] = {
    "wlan": ("WLAN", "Wi-Fi"),
    "bluetooth": ("蓝牙", "Bluetooth"),
    "network": ("移动网络", "Network"),
    "display": ("显示", "Display"),
    "sound": ("声音", "Sound"),
    "alerts": ("通知", "Notifications"),
    "battery": ("电池", "Battery"),
    "location": ("位置", "Location"),
    "security": ("安全", "Security"),
    "privacy": ("隐私", "Privacy"),
    "storage": ("存储", "Storage"),
    "language": ("语言", "Language"),
    "update": ("系统更新", "Updates"),
    "about": ("关于手机", "About phone"),
    "accounts": ("账号", "Accounts"),
    "time": ("日期时间", "Date and time"),
    "wallpaper": ("壁纸", "Wallpaper"),
    "help": ("帮助", "Help"),
}

TOGGLES: dict[str, tuple[str, str, str]] = {
    "wlan": ("启用 WLAN", "Use Wi-Fi", "wlan"),
    "bluetooth": ("启用蓝牙", "Use Bluetooth", "bluetooth"),
    "airplane": ("飞行模式", "Airplane mode", "network"),
    "data": ("移动数据", "Mobile data", "network"),
    "roaming": ("数据漫游", "Roaming", "network"),
    "hotspot": ("个人热点", "Hotspot", "network"),
    "dark": ("深色模式", "Dark mode", "display"),
    "rotate": ("自动旋转", "Auto-rotate", "display"),
    "eye": ("护眼模式", "Eye comfort", "display"),
    "dnd": ("勿扰模式", "Do not disturb", "sound"),
    "silent": ("静音", "Silent mode", "sound"),
    "vibration": ("振动", "Vibration", "sound"),
    "banners": ("横幅", "Banners", "alerts"),
    "lock": ("锁屏通知", "Lock screen", "alerts"),
    "saver": ("省电模式", "Battery saver", "battery"),
    "percent": ("电量百分比", "Percentage", "battery"),
    "location": ("启用定位", "Use location", "location"),
    "fingerprint": ("指纹解锁", "Fingerprint", "security"),
    "face": ("面部解锁", "Face unlock", "security"),
    "microphone": ("麦克风", "Microphone", "privacy"),
    "sync": ("自动同步", "Auto sync", "accounts"),
    "clock24": ("24 小时制", "24-hour clock", "time"),
}
"""key -> (Chinese, English, section)."""

SPOKEN: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "wlan": (("WLAN", "Wi-Fi", "无线网"), ("Wi-Fi", "WLAN")),
    "bluetooth": (("蓝牙",), ("Bluetooth",)),
    "location": (("定位", "位置服务"), ("location", "location access")),
}
"""What people call a toggle where it is not its drawn label."""

CHOICES: dict[str, tuple[str, str, str]] = {
    "brightness": ("亮度", "Brightness", "display"),
    "font": ("字体大小", "Font size", "display"),
    "timeout": ("熄屏时间", "Screen timeout", "display"),
    "volume": ("音量", "Volume", "sound"),
    "speech": ("系统语言", "System language", "language"),
}
"""key -> (Chinese, English, section): rows that lead to a page where one value is chosen."""

VALUES: dict[str, tuple[str, str]] = {
    "low": ("低", "Low"),
    "medium": ("中", "Medium"),
    "high": ("高", "High"),
    "small": ("小号", "Small"),
    "normal": ("标准", "Normal"),
    "large": ("大号", "Large"),
    "s30": ("30 秒", "30 seconds"),
    "m1": ("1 分钟", "1 minute"),
    "m5": ("5 分钟", "5 minutes"),
    "chinese": ("简体中文", "Chinese"),
    "english": ("英语", "English"),
    "french": ("法语", "French"),
}

CHOICE_VALUES: dict[str, tuple[str, ...]] = {
    "brightness": ("low", "medium", "high"),
    "font": ("small", "normal", "large"),
    "timeout": ("s30", "m1", "m5"),
    "volume": ("low", "medium", "high"),
    "speech": ("chinese", "english", "french"),
}
