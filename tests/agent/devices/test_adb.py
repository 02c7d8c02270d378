"""The ADB device, driven through adbutils over real sockets, against a server that speaks ADB's wire protocol."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from PIL import Image

from autoglm.agent.actions import (
    Action,
    Back,
    CallApi,
    DoubleTap,
    Finish,
    Home,
    Interact,
    Launch,
    LongPress,
    Note,
    Swipe,
    TakeOver,
    Tap,
    Type,
    Wait,
)
from autoglm.agent.config import AgentConfig
from autoglm.agent.devices.adb import AdbConfig, AdbDevice
from autoglm.agent.devices.adb.apps import app_of, package_of
from autoglm.agent.devices.adb.keyboard import ADB_KEYBOARD
from autoglm.agent.events import Outcome
from autoglm.agent.loop import Agent, follow
from autoglm.agent.model_client import ModelClient, ModelConfig
from autoglm.errors import (
    DeviceError,
    DeviceNotFoundError,
    DeviceOfflineError,
    DeviceServerError,
    DeviceTimeoutError,
    DeviceUnauthorizedError,
    InvalidInputError,
)
from tests.agent.devices.adb_server import AdbServer, adb_server
from tests.agent.devices.android import LAUNCHER, Android
from tests.agent.model_server import ModelServer
from tests.agent.strategies import texts


@pytest.fixture
def server() -> Iterator[AdbServer]:
    with adb_server() as running:
        yield running


@pytest.fixture
def phone(server: AdbServer) -> Android:
    return server.add("emulator-5554")


def connect(server: AdbServer, **fields: Any) -> AdbDevice:
    quick: dict[str, Any] = {"timeout": 30.0, "settle": 0.0, "double_tap_pause": 0.0, "keyboard_pause": 0.0}
    return AdbDevice(AdbConfig(port=server.port, **quick | fields))


def test_capture(server: AdbServer, phone: Android) -> None:
    phone.front = "com.tencent.mm"
    device = connect(server)
    screen = device.capture()
    assert (screen.width, screen.height, screen.current_app) == (108, 240, "微信")
    assert screen.png == phone.screen()
    assert device.name == "adb:emulator-5554"


def test_a_banner_before_the_picture_is_cut_off(server: AdbServer, phone: Android) -> None:
    phone.banner = b"[Warning] Multiple displays were found, but no display id was specified!\n"
    assert connect(server).capture().png == phone.screen()


@pytest.mark.parametrize("override", [None, (72, 160)])
def test_a_secure_screen_is_black(server: AdbServer, phone: Android, override: tuple[int, int] | None) -> None:
    phone.secure, phone.override = True, override
    screen = connect(server).capture()
    assert (screen.width, screen.height) == (override or phone.size)
    with Image.open(BytesIO(screen.png)) as image:
        assert image.size == (screen.width, screen.height)
        assert image.getextrema() == ((0, 0), (0, 0), (0, 0))


@pytest.mark.parametrize(
    ("front", "name"),
    [
        (LAUNCHER, "System Home"),
        ("com.android.settings", "AndroidSystemSettings"),
        ("com.tencent.mm.lookalike", "System Home"),
    ],
)
def test_the_app_in_front(server: AdbServer, phone: Android, front: str, name: str) -> None:
    phone.front = front
    assert connect(server).current_app() == name


@pytest.mark.parametrize(
    ("action", "commands"),
    [
        (Tap((500, 999)), ["input tap 54 239"]),
        (Tap((0, 0), "confirmed"), ["input tap 0 0"]),
        (DoubleTap((500, 500)), ["input tap 54 120"] * 2),
        (LongPress((100, 100)), ["input swipe 10 24 10 24 3000"]),
        (Swipe((500, 800), (500, 200)), ["input swipe 54 192 54 48 1000"]),
        (Back(), ["input keyevent 4"]),
        (Home(), ["input keyevent KEYCODE_HOME"]),
        (Launch("WeChat"), ["monkey -p com.tencent.mm -c android.intent.category.LAUNCHER 1"]),
        (Launch("com.android.settings"), ["monkey -p com.android.settings -c android.intent.category.LAUNCHER 1"]),
        (Wait(0), []),
    ],
)
@pytest.mark.parametrize("features", ["shell_v2,cmd", "cmd"])
def test_actions_are_the_clients_commands(
    server: AdbServer, phone: Android, action: Action, commands: list[str], features: str
) -> None:
    phone.features = features
    device = connect(server)
    device.capture()
    phone.log.clear()
    assert device.perform(action)
    assert [" ".join(words) for words in phone.log] == commands
    kind = "shell,v2:" if "shell_v2" in features else "shell:"
    assert not commands or server.services[-1].startswith(kind)


def test_a_long_swipe_takes_longer(server: AdbServer, phone: Android) -> None:
    phone.size = (1080, 2400)
    connect(server).perform(Swipe((500, 900), (500, 100)))
    assert phone.log[-1] == ["input", "swipe", "540", "2160", "540", "240", "2000"]


def test_a_tap_before_any_screenshot_asks_for_the_size(server: AdbServer, phone: Android) -> None:
    phone.override = (1000, 2000)
    connect(server).perform(Tap((500, 500)))
    assert phone.log == [["wm", "size"], ["input", "tap", "500", "1000"]]


@pytest.mark.parametrize("text", ["我迟到了 😀", 'it\'s "5 $HOME" `ls` \\n; rm -rf /', "two\nlines", ""])
def test_typing_through_adb_keyboard(server: AdbServer, phone: Android, text: str) -> None:
    own = phone.keyboard
    connect(server).perform(Type(text))
    assert phone.text == text
    assert phone.keyboard == own
    connect(server).perform(Type("again"))
    assert phone.text == "again"


def test_the_own_keyboard_is_back_after_a_failure(server: AdbServer, phone: Android) -> None:
    phone.broken["am"] = "Error: not allowed"
    own = phone.keyboard
    with pytest.raises(DeviceError, match="not allowed"):
        connect(server).perform(Type("x"))
    assert phone.keyboard == own


def test_adb_keyboard_in_use_stays(server: AdbServer, phone: Android) -> None:
    phone.keyboard = ADB_KEYBOARD
    connect(server).perform(Type("x"))
    assert (phone.text, phone.keyboard) == ("x", ADB_KEYBOARD)
    assert ["ime", "set", ADB_KEYBOARD] not in phone.log


@pytest.mark.parametrize("text", ["late  again", "100%s of 5%% $HOME 'x' \"y\" \\ ;&|<>()", "a\nb\n", "%s", ""])
def test_typing_without_adb_keyboard(server: AdbServer, phone: Android, text: str) -> None:
    phone.keyboards = (phone.keyboard,)
    connect(server).perform(Type(text))
    assert phone.text == text


def test_typing_chinese_without_adb_keyboard_is_refused(server: AdbServer, phone: Android) -> None:
    phone.keyboards = (phone.keyboard,)
    with pytest.raises(InvalidInputError, match="ADB Keyboard"):
        connect(server).perform(Type("你好"))
    assert phone.text == "old text"


@pytest.mark.parametrize("app", ["支付宝", "no such app", "com.not.installed"])
def test_an_app_that_is_not_there(server: AdbServer, phone: Android, app: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        connect(server).perform(Launch(app))
    assert caught.value.field == "app"


@pytest.mark.parametrize("action", [TakeOver("x"), Interact(), Note(), CallApi("x"), Finish("x")])
def test_what_is_not_a_phones(server: AdbServer, phone: Android, action: Action) -> None:
    with pytest.raises(InvalidInputError):
        connect(server).perform(action)
    assert phone.log == []


def test_choosing_a_phone(server: AdbServer) -> None:
    with pytest.raises(DeviceNotFoundError):
        connect(server)
    server.add("one", "offline")
    with pytest.raises(DeviceOfflineError, match="one is offline"):
        connect(server)
    server.states["one"] = "unauthorized"
    with pytest.raises(DeviceUnauthorizedError, match="allow debugging"):
        connect(server)
    server.add("two")
    with pytest.raises(InvalidInputError, match="one, two"):
        connect(server)
    with pytest.raises(DeviceNotFoundError, match="three"):
        connect(server, serial="three")
    assert connect(server, serial="two").name == "adb:two"


def test_no_adb_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(DeviceServerError, match="adb start-server") as caught:
        AdbDevice(AdbConfig(port=port, timeout=30))
    assert caught.value.value == port


def test_something_else_on_the_port(model: ModelServer) -> None:
    port = int(model.url.split(":")[2].split("/")[0])
    with pytest.raises(DeviceError):
        AdbDevice(AdbConfig(port=port, timeout=30))


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("device 'emulator-5554' not found", DeviceNotFoundError),
        ("device offline", DeviceOfflineError),
        ("closed", DeviceOfflineError),
        ("device unauthorized.\nPlease check the dialog", DeviceUnauthorizedError),
        ("insufficient permissions", DeviceError),
    ],
)
@pytest.mark.parametrize("service", ["host:tport", "exec:"])
def test_failures_during_a_run(
    server: AdbServer, phone: Android, message: str, kind: type[DeviceError], service: str
) -> None:
    device = connect(server)
    server.fail[service] = message
    with pytest.raises(kind) as caught:
        device.capture()
    assert type(caught.value) is kind
    server.fail.clear()
    assert device.capture().png == phone.screen()  # the same device goes on


def test_unplugged(server: AdbServer, phone: Android) -> None:
    device = connect(server)
    del server.states["emulator-5554"]
    with pytest.raises(DeviceNotFoundError):
        device.perform(Back())


@pytest.mark.parametrize("count", [9, 40, 150])
def test_disconnected_in_the_middle_of_a_screenshot(server: AdbServer, phone: Android, count: int) -> None:
    assert len(phone.screen()) > 150
    device = connect(server)
    server.cut["exec:"] = count
    with pytest.raises(DeviceOfflineError, match=f"after {count} bytes"):
        device.capture()


@pytest.mark.parametrize("features", ["shell_v2", ""])
@pytest.mark.parametrize("count", [0, 3, 7])
def test_disconnected_in_the_middle_of_a_command(server: AdbServer, phone: Android, features: str, count: int) -> None:
    phone.features = features
    device = connect(server)
    server.cut["shell"] = count
    with pytest.raises(DeviceOfflineError):
        device.current_app()


@pytest.mark.parametrize("service", ["host:tport", "exec:"])
def test_a_phone_that_does_not_answer(server: AdbServer, phone: Android, service: str) -> None:
    device = connect(server, timeout=1.0)
    server.silent.add(service)
    with pytest.raises(DeviceTimeoutError) as caught:
        device.capture()
    assert caught.value.limit == 1.0


def test_a_slow_drip_does_not_stretch_the_limit(server: AdbServer, phone: Android) -> None:
    """Every byte comes in time, the whole does not."""
    device = connect(server, timeout=1.0)
    server.trickle.add("exec:")
    with pytest.raises(DeviceTimeoutError):
        device.capture()


def test_a_closed_device_is_refused(server: AdbServer, phone: Android) -> None:
    device = connect(server)
    device.close()
    device.close()
    with pytest.raises(DeviceError, match="closed"):
        device.capture()


def test_a_version_before_tport(server: AdbServer, phone: Android) -> None:
    server.version = 39
    connect(server).perform(Back())
    assert "host:transport:emulator-5554" in server.services


@given(texts)
def test_app_names_are_looked_up_and_never_run(name: str) -> None:
    package = package_of(name)
    assert package is None or package == name.strip() or app_of(package) is not None


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("微信", "com.tencent.mm"),
        ("wechat", "com.tencent.mm"),
        ("Google-Maps", "com.google.android.apps.maps"),
        ("设置", "com.android.settings"),
        ("Settings", "com.android.settings"),
        ("a.b; rm -rf /", None),
        ("", None),
    ],
)
def test_known_apps(name: str, package: str | None) -> None:
    assert package_of(name) == package


async def test_the_loop_on_a_phone(server: AdbServer, phone: Android, model: ModelServer) -> None:
    model.script(
        '<think>打开微信</think><answer>do(action="Launch", app="微信")',
        'do(action="Tap", element=[500,500])',
        'do(action="Type", text="你好")',
        'finish(message="好了")',
    )
    agent = Agent(connect(server), ModelClient(ModelConfig(model.url)), AgentConfig())
    try:
        ended = await follow(agent, "打个招呼", lambda _: None)
    finally:
        await agent.close()
    assert (ended.outcome, ended.message) == (Outcome.FINISHED, "好了")
    assert (phone.front, phone.text) == ("com.tencent.mm", "你好")
    apps = [request["messages"][-1]["content"][1]["text"].split("\n\n")[1] for request in model.requests]
    assert apps == ['{"current_app": "System Home"}', *['{"current_app": "微信"}'] * 3]
