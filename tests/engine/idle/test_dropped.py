"""What a client no longer shows leaves first: its KV, and its features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from autoglm.cache import KVCache, SessionHints, VisualCache, Worth
from autoglm.engine.idle.dialogues import Dialogues
from autoglm.engine.idle.shadow import Shadow, outline
from autoglm.messages import ChatMessage, ImagePart
from autoglm.model.context import ImageFeatures
from autoglm.synthetic import make_phone_checkpoint
from tests.engine.harness import GREEDY, Driver, engine_of, screen, user
from tests.engine.idle.client import Client, step

SHORT = msgspec.structs.replace(GREEDY, max_tokens=4, ignore_eos=True)


@pytest.fixture(scope="module", params=["glm4v", "phone"])
def layout(request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint if request.param == "glm4v" else make_phone_checkpoint(tmp_path_factory.mktemp("phone"))


def two_sessions(layout: Path, **options: Any) -> tuple[Driver, int]:
    """One phone goes on step by step, another client waits; what the pool has of the other when it comes back."""
    driver = Driver(engine_of(layout, idle_prefill=False, **options))
    waiting = [ChatMessage("system", "the one that waits " * 30), user("and comes back")]
    busy = Client("the one that works " * 8)
    driver.ask(waiting, SHORT)
    for _ in range(7):
        step(driver, busy, sampling=SHORT)
    return driver, driver.ask(waiting, SHORT).cached


def test_the_dropped_branch_makes_room_for_the_new_one(layout: Path) -> None:
    block = Driver(engine_of(layout)).engine.model.kv_spec.bytes_per_token * 16
    with_it, kept = two_sessions(layout, kv_cache_bytes=48 * block)
    without, lost = two_sessions(layout, kv_cache_bytes=48 * block, evict_dropped=False)
    stats = with_it.engine.stats()
    assert stats.dropped_images == 6
    assert stats.dropped_blocks > 0
    assert with_it.engine.kv.evictions_of(Worth.DROPPED) > 0
    assert without.engine.kv.evictions_of(Worth.DROPPED) == 0
    assert without.engine.kv.counters.evictions > 0
    assert kept > lost


def test_features_of_what_is_not_shown_go_first(layout: Path) -> None:
    size = Driver(engine_of(layout))
    size.ask(Client().show(), SHORT)
    room = size.engine.visual.bytes * 2
    for drop in (True, False):
        driver = Driver(engine_of(layout, visual_cache_bytes=room, evict_dropped=drop))
        still, busy, newcomer = Client("the one whose screen stands still"), Client(), Client()
        newcomer.messages[0] = ChatMessage("system", "No token of its prompt is like the others', but its screen is.")
        driver.ask(still.show(screen(1)), SHORT)
        for _ in range(7):
            step(driver, busy, sampling=SHORT)
        driver.ask(newcomer.show(screen(1)), SHORT)
        assert driver.engine.visual.counters.misses == (8 if drop else 9)
        assert (driver.engine.visual.dropped_evictions > 0) == drop


def test_a_screen_that_another_phone_shows_is_not_dropped(checkpoint: Path) -> None:
    driver, phones = Driver(engine_of(checkpoint)), [Client("first"), Client("second")]
    for phone in phones:
        driver.ask(phone.show(screen(1)), SHORT)
        phone.hear("x")
    key = next(iter(driver.engine.visual._entries))
    driver.ask(phones[0].show(screen(2)), SHORT)
    assert not driver.engine.visual._entries[key].dropped
    driver.ask(phones[1].show(screen(3)), SHORT)
    assert driver.engine.visual._entries[key].dropped
    assert driver.engine.stats().dropped_images == 2


def test_a_hint_moves_to_what_is_left(checkpoint: Path) -> None:
    """A session that asks to be kept is kept, but not with the branch it left."""
    driver, client = Driver(engine_of(checkpoint)), Client()
    options: dict[str, Any] = {"session": "s", "keep_seconds": 100.0, "sampling": SHORT}
    step(driver, client, **options)
    shielded = driver.engine.hints.kept_blocks
    request = driver.submit(client.show(), **options)
    while driver.engine.admission.pending:
        driver.step()
    assert 0 < driver.engine.hints.kept_blocks < shielded
    assert driver.engine.kv.branches.dropped_blocks > 0
    driver.drain()
    assert driver.results[request, 0].finish is not None
    assert driver.engine.hints.kept_blocks > 0


def test_memory_is_bounded() -> None:
    kv = KVCache(8, 4)
    visual: VisualCache[ImageFeatures] = VisualCache(0)
    dialogues = Dialogues(kv, visual, SessionHints(kv.shields, 4), most=4, most_chars=1000)
    for number in range(50):
        message = ChatMessage("user", [ImagePart(b"%d" % number)])
        digest = b"%d" % number
        shadow = Shadow((ChatMessage("system", str(number)), message), {digest: outline(digest, (1, 2, 2), 1)}, 300)
        dialogues.begin(_sequence(number), shadow)
        dialogues.end(_sequence(number), _answer())
        assert len(dialogues) <= 3
        assert len(dialogues._shown) <= 3
    assert not dialogues._live


def _sequence(number: int) -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(request_id=str(number), salt="", session="", leaf=None, identities=[])


def _answer() -> Any:
    return None
