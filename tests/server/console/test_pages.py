"""The page's files: nothing from outside, nothing that parses HTML, both languages whole."""

from __future__ import annotations

import re
from importlib.resources import files

import httpx
import pytest

from tests.server.console.live import Console

STATIC = files("autoglm.server.console").joinpath("static")
SOURCES = {file.name: file.read_text(encoding="utf-8") for file in STATIC.iterdir()}
SCRIPTS = {name: text for name, text in SOURCES.items() if name.endswith(".js")}


def test_the_page_and_its_files(expert: Console) -> None:
    page = httpx.get(f"{expert.url}/console/")
    assert page.status_code == 200
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert page.headers["x-content-type-options"] == "nosniff"
    named = set(re.findall(r'(?:src|href)="static/([\w.]+)"', page.text))
    assert named <= set(SOURCES)
    for name, text in SOURCES.items():
        file = httpx.get(f"{expert.url}/console/static/{name}")
        assert file.status_code == 200
        assert file.text == text
        again = httpx.get(f"{expert.url}/console/static/{name}", headers={"If-None-Match": file.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["nothing.js", "..%2fpages.py", "%2e%2e%2fpages.py", "index.html%00"])
def test_no_other_file(expert: Console, name: str) -> None:
    assert httpx.get(f"{expert.url}/console/static/{name}").status_code == 404


def test_without_the_slash(expert: Console) -> None:
    assert httpx.get(f"{expert.url}/console", follow_redirects=True).text == SOURCES["index.html"]


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_nothing_from_outside(name: str) -> None:
    addresses = set(re.findall(r"(?:https?:)?//[\w.]+\.[a-z]{2,}[\w/.]*", SOURCES[name]))
    assert addresses <= {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_no_script_parses_html(name: str) -> None:
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", SCRIPTS[name])


def test_no_inline_script_or_style() -> None:
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", SOURCES["index.html"])


def test_every_word_in_both_languages() -> None:
    words = dict(re.findall(r"^\s+'?([\w-]+)'?: \[\s*(['\"].*?)\],?$", SCRIPTS["i18n.js"], re.M | re.S))
    used = set(re.findall(r'data-i18n(?:-label|-placeholder)?="([\w-]+)"', SOURCES["index.html"]))
    for text in SCRIPTS.values():
        used |= set(re.findall(r"\bt\('([\w-]+)'", text))
    assert used <= set(words), used - set(words)
    for word, both in words.items():
        assert len(re.findall(r"'(?:[^'\\]|\\.)*'", both)) == 2, word
