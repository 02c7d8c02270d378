"""The screenshots of docs/console.md, made from a running console: ``python docs/make_screenshots.py [--model NAME]``.

Needs the ``test`` extra and the system packages chromium and chromium-driver. With ``--expert`` the task's own expert
answers in the model's place; the engine's figures are empty then.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.server.console.browser import DESKTOP, PHONE, Page, chromium  # noqa: E402
from tests.server.console.live import Console, scripted  # noqa: E402
from tests.server.console.test_api import buying  # noqa: E402

IMAGES = ROOT / "docs" / "images"
SEED = 20_261_031
TASKS = 5
TALL = (1360, 1500)
"""A desktop window in which every card is seen whole."""


def main() -> None:
    """Write ``docs/images/console-*.png``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", help="another model than the embedded one")
    parser.add_argument("--expert", action="store_true", help="no model: the tasks' own expert answers")
    options = parser.parse_args()
    source = scripted(delay=0.005) if options.expert else served(options.model)
    with tempfile.TemporaryDirectory() as folder, source as console, chromium(Path(folder) / "profile") as page:
        os.environ["AUTOGLM_ARTEFACTS"] = folder
        for language, dark in (("en", False), ("zh", True)):
            work(page, console, language, dark)
            keep(page, f"wide-{language}-{'dark' if dark else 'light'}")
            page.look(PHONE, dark=dark)
            keep(page, f"small-{language}-{'dark' if dark else 'light'}", whole=False)
        if options.expert:
            ask(page, console)


@contextmanager
def served(model: str | None) -> Iterator[Console]:
    """The real server with a model."""
    command = [sys.executable, "-m", "autoglm.cli", "serve", *([model] if model else []), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = next(found[1] for line in process.stdout or () if (found := re.match(r"ready: (\S+)/v1", line)))
        console = Console(url)
        yield console
        console.close()
        process.terminate()


def work(page: Page, console: Console, language: str, dark: bool) -> None:
    """A phone that has done some tasks."""
    phone = console.phone(seed=SEED, language=language, theme="dark" if dark else "light")
    page.look(TALL, dark=dark)
    page.open(f"{console.url}/console/#{phone}")
    page.speak(language)
    for index in range(TASKS):
        page.suggestion(page.all("#chips button")[index].text)
        page.wait(lambda count=index: len(page.all(".run")) > count, "the task's beginning")  # type: ignore[misc]
        page.ended()


def ask(page: Page, console: Console) -> None:
    """A question to the person."""
    phone, text = buying(console)
    page.look(DESKTOP)
    page.open(f"{console.url}/console/#{phone}")
    page.speak("en")
    page.suggestion(text)
    page.wait(lambda: page.one("#ask").is_displayed(), "the question")
    keep(page, "question")
    page.click("#deny")


def keep(page: Page, name: str, *, whole: bool = False) -> None:
    """A screenshot, without transparency."""
    file = page.shot(name, whole=whole)
    target = IMAGES / f"console-{name}.png"
    with Image.open(file) as image:
        image.convert("RGB").save(target, optimize=True)
    print(f"{target.relative_to(ROOT)}: {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
