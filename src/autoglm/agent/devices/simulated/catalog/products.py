"""What the shop may sell: key -> (Chinese, English)."""

from __future__ import annotations

PRODUCTS: dict[str, tuple[str, str]] = {
    "headphones": ("耳机", "Headphones"),
    "coffee": ("咖啡", "Coffee"),
    "tea": ("绿茶", "Green tea"),
    "milk": ("牛奶", "Milk"),
    "bread": ("面包", "Bread"),
    "apples": ("苹果", "Apples"),
    "rice": ("大米", "Rice"),
    "chocolate": ("巧克力", "Chocolate"),
    "umbrella": ("雨伞", "Umbrella"),
    "shoes": ("跑鞋", "Running shoes"),
    "jacket": ("夹克", "Jacket"),
    "hat": ("帽子", "Hat"),
    "backpack": ("双肩包", "Backpack"),
    "charger": ("充电器", "Charger"),
    "keyboard": ("键盘", "Keyboard"),
    "mouse": ("鼠标", "Mouse"),
    "lamp": ("台灯", "Desk lamp"),
    "chair": ("椅子", "Chair"),
    "towel": ("毛巾", "Towel"),
    "soap": ("香皂", "Soap"),
    "toothbrush": ("牙刷", "Toothbrush"),
    "book": ("小说", "Novel"),
    "football": ("足球", "Football"),
    "flowers": ("鲜花", "Flowers"),
}
