"""A real Chromium with a console in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from autoglm import env

# Nothing is downloaded, and nothing but the page is fetched.
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
DESKTOP, PHONE = (1360, 860), (390, 844)
PATIENCE = 300
"""Seconds; only ends a test that hangs."""


class Page:
    """What a person sees and does."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Load a console afresh, and wait for the phone's picture and the suggestions."""
        self.driver.get("about:blank")
        self.driver.get(url)
        self.wait(lambda: self.script("return document.getElementById('screen').naturalWidth > 0"), "a picture")
        self.wait(lambda: self.all("#chips button"), "suggestions")

    def look(self, size: tuple[int, int], *, dark: bool = False) -> None:
        """Set the window's size and the preferred theme."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False},
        )
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme, still]})

    def script(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        return WebDriverWait(self.driver, PATIENCE, 0.2).until(lambda _: condition(), what)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """As it stands in the document, seen or not."""
        return str(self.script("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def click(self, selector: str) -> None:
        self.script("arguments[0].scrollIntoView({block: 'center'})", self.one(selector))
        self.one(selector).click()

    def speak(self, language: str) -> None:
        """Switch the page's language."""
        self.click(f"[data-lang={language}]")

    def new_phone(self, seed: int, language: str, theme: str) -> None:
        """By the form."""
        self.script("document.getElementById('phones-fold').open = true")
        for selector, value in (("#seed", str(seed)), ("#phone-language", language), ("#phone-theme", theme)):
            self.script("document.querySelector(arguments[0]).value = arguments[1]", selector, value)
        before = self.script("return location.hash")
        self.click("#new-phone button")
        self.wait(lambda: self.script("return location.hash") != before, "another phone")
        self.wait(lambda: str(seed) in self.text("#phone-facts"), "its facts")
        self.script("document.getElementById('phones-fold').open = false")

    def first_suggestion(self) -> str:
        """Wait for the suggestions; the first."""
        find = "return document.querySelector('#chips button')?.textContent"
        return str(self.wait(lambda: self.script(find), "suggestions"))

    def suggestion(self, text: str) -> None:
        """Wait for a chip and press it."""
        find = "return [...document.querySelectorAll('#chips button')].find((b) => b.textContent === arguments[0])"
        chip = self.wait(lambda: self.script(find, text), f"the suggestion {text!r}")
        self.script("arguments[0].scrollIntoView({block: 'center'})", chip)
        chip.click()

    def type_task(self, text: str) -> None:
        """By keyboard, ended with Enter."""
        field = self.one("#instruction")
        field.clear()
        field.send_keys(text, "\n")

    def ended(self) -> str:
        """Wait for the newest task to end; its badge."""
        self.wait(lambda: self.all("#stop[hidden]") and self.all(".run"), "the task's end")
        self.wait(lambda: self.script("return document.querySelector('.badge').dataset.tone !== ''"), "its badge")
        return self.text(".badge")

    def tap(self, part: tuple[float, float]) -> None:
        """Click with the mouse at a place of the phone's screen, given as parts of its width and height."""
        glass = self.one("#glass")
        self.script("arguments[0].scrollIntoView({block: 'center'})", glass)
        width, height = glass.size["width"], glass.size["height"]
        x, y = round((part[0] - 0.5) * width), round((part[1] - 0.5) * height)
        ActionChains(self.driver).move_to_element_with_offset(glass, x, y).click().perform()

    def shot(self, name: str, *, whole: bool = False) -> Path:
        """Keep a screenshot as an artefact; ``whole``: the page to its end."""
        file = env.artefacts() / f"console-{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        self.script("document.activeElement?.blur(); scrollTo(0, 0)")
        if whole:
            height = self.script("return document.documentElement.scrollHeight")
            width = self.script("return innerWidth")
            self.driver.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
            )
        assert self.driver.save_screenshot(str(file))
        return file

    def complaints(self) -> list[str]:
        """What the browser itself objected to: script errors, refused loads. Answers of the API are not that."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [e["message"] for e in entries if e["level"] == "SEVERE" and "/console/api/" not in e["message"]]


@contextmanager
def chromium(profile: Path) -> Iterator[Page]:
    """A browser with a profile of its own, gone afterwards. Fails if Chromium or its driver is not installed."""
    binary, server = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or server is None:
        raise RuntimeError(
            "these tests need the system packages chromium and chromium-driver; `make test` installs them"
        )
    os.environ["SE_OFFLINE"] = "true"
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={profile}", "--lang=en-US"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(server))
    try:
        driver.set_script_timeout(PATIENCE)
        yield Page(driver)
    finally:
        driver.quit()
