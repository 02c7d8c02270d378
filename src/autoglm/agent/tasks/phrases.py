"""How people ask: paraphrases by family and language.

Slots: ``{app} {thing} {value} {person} {text} {time} {product} {first} {second}``. The last phrase of every family that
has four or more is never used in training.
"""

from __future__ import annotations

PHRASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "open": (
        ("打开{app}", "启动{app}", "帮我打开{app}应用", "进入{app}", "请运行{app}"),
        ("Open {app}", "Launch {app}", "Start the {app} app", "Go to {app}", "Please run {app}"),
    ),
    "icon": (
        ("在桌面点击{app}图标", "从桌面打开{app}", "找到{app}图标并点开", "点一下桌面上的{app}", "用桌面图标进入{app}"),
        (
            "Tap the {app} icon",
            "Open {app} from the home screen",
            "Find the {app} icon and tap it",
            "Tap {app} on the home screen",
            "Use the icon of {app}",
        ),
    ),
    "do": (
        ("在{app}里点{thing}", "打开{app}，点击{thing}", "用{app}{thing}", "去{app}按一下{thing}", "{app}：{thing}"),
        (
            "Press {thing} in {app}",
            "Open {app} and tap {thing}",
            "{thing} in {app}",
            "Go to {app}, press {thing}",
            "In {app}: {thing}",
        ),
    ),
    "section": (
        ("打开{thing}设置", "进入设置里的{thing}", "在设置中找到{thing}", "去{thing}设置页面", "看看{thing}的设置"),
        (
            "Open {thing} settings",
            "Go to {thing} in Settings",
            "Find {thing} in Settings",
            "Show the {thing} settings",
            "Take me to {thing} settings",
        ),
    ),
    "on": (
        ("打开{thing}", "开启{thing}", "把{thing}打开", "打开设置，开启{thing}", "帮我把{thing}开一下"),
        (
            "Turn on {thing}",
            "Enable {thing}",
            "Switch {thing} on",
            "Go to Settings and turn on {thing}",
            "I want {thing} on",
        ),
    ),
    "connect": (
        (
            "打开{thing}",
            "连接{thing}",
            "打开设置，连接{thing}",
            "把{thing}打开",
            "打开设置，开启{thing}",
            "帮我把{thing}开一下",
        ),
        (
            "Turn on {thing}",
            "Connect to {thing}",
            "Open Settings and connect to {thing}",
            "Switch {thing} on",
            "Go to Settings and turn on {thing}",
            "I want {thing} on",
        ),
    ),
    "off": (
        ("关闭{thing}", "关掉{thing}", "把{thing}关了", "打开设置，关闭{thing}", "帮我把{thing}停掉"),
        (
            "Turn off {thing}",
            "Disable {thing}",
            "Switch {thing} off",
            "Go to Settings and turn off {thing}",
            "I want {thing} off",
        ),
    ),
    "ask": (
        (
            "{thing}开着吗？",
            "查一下{thing}是否打开",
            "看看{thing}有没有开",
            "{thing}现在是开还是关？",
            "告诉我{thing}的状态",
        ),
        (
            "Is {thing} on?",
            "Check whether {thing} is on",
            "Is {thing} on or off?",
            "See if {thing} is on",
            "Tell me the state of {thing}",
        ),
    ),
    "choice": (
        (
            "把{thing}设为{value}",
            "{thing}调到{value}",
            "设置{thing}为{value}",
            "将{thing}改成{value}",
            "我想让{thing}变成{value}",
        ),
        (
            "Set {thing} to {value}",
            "Change {thing} to {value}",
            "Make {thing} {value}",
            "Put {thing} on {value}",
            "I want {thing} at {value}",
        ),
    ),
    "call": (
        ("给{person}打电话", "打电话给{person}", "呼叫{person}", "拨打{person}的电话", "我要和{person}通话"),
        ("Call {person}", "Phone {person}", "Make a call to {person}", "Ring {person}", "Get {person} on the phone"),
    ),
    "contact": (
        (
            "打开{person}的联系人页面",
            "在通讯录里找{person}",
            "查看联系人{person}",
            "找一下{person}的名片",
            "看看{person}的资料",
        ),
        (
            "Open the contact {person}",
            "Find {person} in Contacts",
            "Show {person}'s contact",
            "Look up {person}",
            "Show me the card of {person}",
        ),
    ),
    "star": (
        ("收藏联系人{person}", "把{person}加入收藏", "将{person}设为收藏", "收藏{person}", "把{person}标为常用"),
        (
            "Add {person} to favourites",
            "Make {person} a favourite",
            "Favourite {person}",
            "Mark {person} as favourite",
            "Put {person} among favourites",
        ),
    ),
    "unstar": (
        ("取消收藏{person}", "把{person}移出收藏", "不再收藏{person}", "取消{person}的收藏", "把{person}从收藏里去掉"),
        (
            "Remove {person} from favourites",
            "Unfavourite {person}",
            "Make {person} no favourite",
            "Take {person} off favourites",
            "Drop {person} from favourites",
        ),
    ),
    "text": (
        (
            "给{person}发消息说{text}",
            "发短信给{person}：{text}",
            "告诉{person}{text}",
            "给{person}发“{text}”",
            "帮我跟{person}说{text}",
        ),
        (
            "Text {person} that {text}",
            "Send a message to {person}: {text}",
            "Tell {person} {text}",
            'Send "{text}" to {person}',
            "Write {person} {text}",
        ),
    ),
    "search": (
        ("在{app}搜索{text}", "用{app}查{text}", "打开{app}，搜索{text}", "去{app}搜一下{text}", "{app}里找找{text}"),
        (
            "Search for {text} in {app}",
            "Search {app} for {text}",
            "Open {app} and search for {text}",
            "Find {text} in {app}",
            "Use {app} to look for {text}",
        ),
    ),
    "shop_search": (
        ("在商城搜索{text}", "用商城的搜索查{text}", "打开商城，搜索{text}", "去商城搜一下{text}", "商城里搜搜{text}"),
        (
            "Search for {text} in Shop",
            "Search Shop for {text}",
            "Open Shop and search for {text}",
            "In Shop, search {text}",
            "Run a search for {text} in Shop",
        ),
    ),
    "view": (
        (
            "在商城里看看{product}",
            "打开商城的{product}页面",
            "商城中找到{product}",
            "查看商品{product}",
            "给我看商城里的{product}",
        ),
        (
            "Show me {product} in Shop",
            "Open the {product} page in Shop",
            "Find {product} in Shop",
            "View the product {product}",
            "Let me see {product} in Shop",
        ),
    ),
    "cart": (
        (
            "把{product}加入购物车",
            "{product}放进购物车",
            "在商城把{product}加购",
            "加购{product}",
            "购物车里放一件{product}",
        ),
        (
            "Add {product} to the cart",
            "Put {product} in my cart",
            "In Shop, add {product} to cart",
            "Cart {product}",
            "I want {product} in the cart",
        ),
    ),
    "buy": (
        ("买{product}", "在商城购买{product}", "帮我买一份{product}", "下单{product}", "我想买{product}"),
        ("Buy {product}", "Buy {product} in Shop", "Order {product} for me", "Purchase {product}", "Get me {product}"),
    ),
    "alarm": (
        ("设一个{time}的闹钟", "{time}叫我起床", "新建闹钟{time}", "定{time}的闹钟", "闹钟定到{time}"),
        (
            "Set an alarm for {time}",
            "Wake me up at {time}",
            "Add an alarm at {time}",
            "Make a {time} alarm",
            "I need an alarm at {time}",
        ),
    ),
    "alarm_on": (
        ("打开{time}的闹钟", "开启{time}闹钟", "把{time}的闹钟打开", "启用{time}那个闹钟", "让{time}的闹钟响"),
        (
            "Turn on the {time} alarm",
            "Enable the {time} alarm",
            "Switch on the alarm at {time}",
            "Activate the {time} alarm",
            "Let the {time} alarm ring",
        ),
    ),
    "alarm_off": (
        ("关闭{time}的闹钟", "关掉{time}闹钟", "把{time}的闹钟关了", "停用{time}那个闹钟", "别让{time}的闹钟响"),
        (
            "Turn off the {time} alarm",
            "Disable the {time} alarm",
            "Switch off the alarm at {time}",
            "Deactivate the {time} alarm",
            "Stop the {time} alarm",
        ),
    ),
    "alarm_delete": (
        ("删除{time}的闹钟", "删掉{time}闹钟", "把{time}的闹钟删了", "移除{time}那个闹钟", "不要{time}的闹钟了"),
        (
            "Delete the {time} alarm",
            "Remove the {time} alarm",
            "Delete the alarm at {time}",
            "Erase the {time} alarm",
            "Get rid of the {time} alarm",
        ),
    ),
    "note": (
        ("写便签：{text}", "新建便签{text}", "记一条便签，内容是{text}", "在便签里写{text}", "帮我记下{text}"),
        (
            "Write a note: {text}",
            "Add a note {text}",
            "Make a note saying {text}",
            "Note down {text}",
            "Put {text} in my notes",
        ),
    ),
    "allow": (
        ("允许权限", "点允许", "同意这个请求", "在弹窗里选允许"),
        ("Allow the permission", "Tap allow", "Accept the request", "Choose allow in the dialog"),
    ),
    "deny": (
        ("拒绝权限", "点拒绝", "不同意这个请求", "在弹窗里选拒绝"),
        ("Deny the permission", "Tap deny", "Refuse the request", "Choose deny in the dialog"),
    ),
    "later": (
        ("以后再更新", "点以后再说", "先不更新", "在弹窗里选以后再说"),
        ("Update later", "Tap later", "Do not update now", "Choose later in the dialog"),
    ),
    "update_now": (
        ("立即更新", "点立即更新", "现在就更新", "在弹窗里选立即更新"),
        ("Update now", "Tap update now", "Run the update", "Choose update now in the dialog"),
    ),
    "banner": (
        ("打开新消息通知", "点开顶部的通知", "看看新消息", "查看刚来的消息"),
        ("Open the notification", "Tap the banner", "Read the new message", "See the message that came in"),
    ),
    "back": (
        ("返回", "返回上一页", "后退", "回到上一页"),
        ("Go back", "Back", "Return to the last page", "One page back"),
    ),
    "home": (
        ("回到桌面", "返回主屏幕", "回主页", "回到主屏"),
        ("Go home", "Go to the home screen", "Back to the home screen", "Show the home screen"),
    ),
    "wait": (("等一下", "稍等片刻", "等待加载", "先等等"), ("Wait", "Wait a moment", "Wait for it to load", "Hold on")),
    "swipe_up": (
        ("向上滑动", "往下翻", "上滑一下", "看下面的内容"),
        ("Swipe up", "Scroll down", "Swipe up once", "Show what is below"),
    ),
    "swipe_down": (
        ("向下滑动", "往上翻", "下滑一下", "看上面的内容"),
        ("Swipe down", "Scroll up", "Swipe down once", "Show what is above"),
    ),
    "swipe_left": (
        ("向左滑动", "左滑一下", "翻到右边一页", "看右边的内容"),
        ("Swipe left", "Swipe left once", "Go one page right", "Show what is on the right"),
    ),
    "swipe_right": (
        ("向右滑动", "右滑一下", "翻到左边一页", "看左边的内容"),
        ("Swipe right", "Swipe right once", "Go one page left", "Show what is on the left"),
    ),
    "page": (
        ("现在是哪个页面？", "这是什么页面", "当前页面叫什么", "我在哪个页面？", "说出页面名称"),
        ("Which page is this?", "What page am I on?", "Name this page", "Where am I?", "Tell me the page's name"),
    ),
    "two": (
        ("先{first}，再{second}", "{first}，然后{second}", "{first}，接着{second}", "{first}之后{second}"),
        (
            "{first}, then {second}",
            "{first} and then {second}",
            "First {first}, then {second}",
            "{first}; after that {second}",
        ),
    ),
}


def split_phrases(family: str, language: str, *, held_out: bool) -> tuple[str, ...]:
    """The phrases of a family for training, or those kept for the held-out split."""
    phrases = PHRASES[family][0 if language == "zh" else 1]
    if len(phrases) < 4:
        return phrases
    return phrases[-1:] if held_out else phrases[:-1]
