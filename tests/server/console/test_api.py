"""The console's HTTP API, with the real agent loop and an expert in the model's place."""

from __future__ import annotations

import struct
from typing import Any

import httpx
import pytest

from autoglm.agent.devices.simulated import PhoneSpec, SimulatedPhone
from autoglm.server.console.suggestions import Suggestions
from tests.server.console.live import Console, Event, of, scripted, until
from tests.server.harness import error_of, wait_until


def buying(console: Console) -> tuple[str, str]:
    """A phone, and a suggested task that a person must confirm on the way."""
    for seed in range(50):
        suggestions = Suggestions(SimulatedPhone(PhoneSpec.random(seed, "en")))
        for text in suggestions.draw():
            task = suggestions.task_of(text)
            if task is not None and task.sensitive:
                phone = console.phone(seed=seed, language="en")
                assert text in console.suggestions(phone)
                return phone, text
    raise AssertionError("no phone has something to buy")


def answering(console: Console, phone: str, allow: bool) -> Any:
    """A person who answers every question the same."""

    def each(event: Event) -> None:
        if event["type"] == "asked":
            question = event["question"]["question"]
            assert console.post(phone, "answer", question=question, allow=allow).status_code == 200

    return each


def test_phones_come_and_go(expert: Console) -> None:
    first = expert.phone(seed=7, language="zh", theme="dark")
    state = expert.state(first)
    assert (state["seed"], state["language"], state["theme"], state["task"]) == (7, "zh", "dark", None)
    second = expert.phone()
    listed = expert.http.get("/phones").json()
    assert [phone["id"] for phone in listed["phones"]] == [first, second]
    assert expert.http.delete(f"/phones/{first}").status_code == 204
    gone = expert.http.get(f"/phones/{first}")
    assert gone.status_code == 404
    assert error_of(gone)["param"] == "phone"


def test_the_same_seed_is_the_same_phone(expert: Console) -> None:
    one, two, other = (expert.screen(expert.phone(seed=seed)).content for seed in (5, 5, 6))
    assert one == two
    assert one != other


def test_too_many_phones(expert: Console) -> None:
    for _ in range(6):
        expert.phone()
    refused = expert.http.post("/phones", json={})
    assert refused.status_code == 429
    error = error_of(refused)
    assert (error["code"], error["param"], error["limit"], error["value"]) == ("overloaded", "phones", 6, 6)


def test_too_many_viewers(expert: Console) -> None:
    phone = expert.phone()
    with expert.watch(phone) as one, expert.watch(phone) as two:
        assert until(one, "state")["phone"]["id"] == until(two, "state")["phone"]["id"] == phone
        refused = expert.http.get(f"/phones/{phone}/events")
        assert refused.status_code == 429
        assert error_of(refused)["limit"] == 2

    def free() -> bool:
        with expert.http.stream("GET", f"/phones/{phone}/events") as response:
            return response.status_code == 200

    wait_until(free, what="a place for a viewer after one has left")


def test_the_screen_is_sent_once(expert: Console) -> None:
    phone = expert.phone(seed=1)
    state = expert.state(phone)
    first = expert.screen(phone)
    assert first.headers["content-type"] == "image/png"
    assert struct.unpack(">II", first.content[16:24]) == (state["width"], state["height"])
    etag = first.headers["etag"]
    assert expert.screen(phone, etag).status_code == 304
    assert expert.act(phone, kind="home").json() == {"changed": False}
    assert expert.screen(phone, etag).status_code == 304
    assert expert.act(phone, kind="swipe", at=[800, 500], to=[200, 500]).json() == {"changed": True}
    assert expert.screen(phone, etag).status_code == 200


def test_a_person_at_the_phone(expert: Console) -> None:
    phone = expert.phone(seed=3, language="en")
    icon = next(e for e in SimulatedPhone(PhoneSpec.random(3, "en")).elements() if e.concept == "app.notes")
    left, top, right, bottom = icon.box
    state = expert.state(phone)
    at = [(left + right) * 500 // state["width"], (top + bottom) * 500 // state["height"]]
    with expert.watch(phone) as events:
        assert until(events, "frame")["app"] == "System Home"
        assert expert.act(phone, kind="tap", at=at).json() == {"changed": True}
        assert until(events, "input")["points"] == [at]
        assert until(events, "frame")["app"] == "Notes"
        assert expert.act(phone, kind="back").json() == {"changed": True}
        assert until(events, "frame")["app"] == "System Home"


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("", {"seed": -1}, "seed"),
    ("", {"seed": "7"}, "seed"),
    ("", {"language": "fr"}, "language"),
    ("", {"colour": "red"}, "colour"),
    ("input", {"kind": "fling"}, "kind"),
    ("input", {"kind": "tap", "at": [0, 1000]}, "at[1]"),
    ("input", {"kind": "tap", "at": [1]}, "at"),
    ("input", {"kind": "tap"}, "body"),
    ("input", {"kind": "back", "at": [1, 1]}, "body"),
    ("input", {"kind": "type", "text": "x" * 1001}, "text"),
    ("task", {"instruction": ""}, "instruction"),
    ("task", {"instruction": " \n"}, "instruction"),
    ("task", {"instruction": "x" * 1001}, "instruction"),
    ("task", {"instruction": "go", "pause": 6}, "pause"),
    ("answer", {"question": 0, "allow": True}, "question"),
    ("answer", {"question": 1}, "allow"),
]


@pytest.mark.parametrize(("what", "body", "field"), BAD)
def test_bad_input_is_named(expert: Console, what: str, body: dict[str, Any], field: str) -> None:
    where = f"/phones/{expert.phone()}/{what}" if what else "/phones"
    refused = expert.http.post(where, json=body)
    assert refused.status_code == 400
    assert error_of(refused)["param"] == field


def test_bodies_that_are_no_requests(expert: Console) -> None:
    phone = expert.phone()
    kind = {"content-type": "application/json"}
    post = expert.http.post
    assert error_of(post("/phones", content=b"{", headers=kind))["param"] == "body"
    assert error_of(post("/phones", content=b"[]", headers=kind))["param"] == "body"
    assert error_of(post("/phones", content=b"{}", headers={"content-type": "text/plain"}))["param"] == "content-type"
    large = post(f"/phones/{phone}/task", json={"instruction": "x" * 20_000})
    assert (large.status_code, error_of(large)["limit"]) == (413, 16 * 1024)
    for place in ("x", "-1", "1.5", "9" * 20):
        refused = expert.http.get(f"/phones/{phone}/events", params={"after": place})
        assert (refused.status_code, error_of(refused)["param"]) == (400, "after")
    assert expert.http.get(f"/phones/{phone}/shots/1/1").status_code == 404


def test_other_sites_stay_out(expert: Console) -> None:
    refused = expert.http.post("/phones", json={}, headers={"Origin": "http://evil.example"})
    assert (refused.status_code, error_of(refused)["code"]) == (403, "forbidden")
    assert expert.http.get("/phones").json()["phones"] == []
    assert expert.http.post("/phones", json={}, headers={"Origin": expert.url}).status_code == 201


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_task_from_start_to_end(expert: Console, language: str) -> None:
    phone = expert.phone(seed=11, language=language)
    events = expert.run(phone, expert.suggestions(phone)[0])
    end = events[-1]
    assert (end["outcome"], end["reached"]) == ("finished", True)
    steps = of("step", events)
    assert [e["step"] for e in steps] == list(range(1, end["steps"] + 1))
    timed = of("timed", events)
    assert len(timed) == len(of("decided", events)) == end["steps"]
    for event in timed:
        fall = event["ms"]
        assert fall["to_action"] == pytest.approx(sum(fall[p] for p in ("capture", "encode", "prefill", "decode")))
        assert event["usage"]["image_tokens"] == 576
    for step in steps:
        shot = expert.http.get(f"/phones/{phone}/shots/1/{step['step']}")
        assert shot.content.startswith(b"\x89PNG")
    assert expert.state(phone)["task"] is None
    thoughts = "".join(e["text"] for e in of("thought", events))
    assert of("decided", events)[-1]["think"][-4:] in thoughts


def test_the_history_can_be_read_again(expert: Console) -> None:
    phone = expert.phone(seed=11, language="en")
    first = [e for e in expert.run(phone, expert.suggestions(phone)[0]) if "seq" in e]
    with expert.watch(phone) as events:
        assert [next(events) for _ in first] == first
    middle = first[len(first) // 2]["seq"]
    with expert.watch(phone, after=middle) as events:
        assert next(events)["seq"] == middle + 1


def test_one_task_at_a_time(expert: Console) -> None:
    phone = expert.phone(seed=11, language="en")
    text = expert.suggestions(phone)[0]
    for what in ("take-over", "resume"):
        idle = expert.post(phone, what)
        assert (idle.status_code, error_of(idle)["param"]) == (409, "task")
    assert expert.http.delete(f"/phones/{phone}/task").status_code == 409
    with expert.watch(phone) as events:
        assert expert.start(phone, text, pause=5).status_code == 202
        assert expert.start(phone, text).status_code == 409
        touched = expert.act(phone, kind="home")
        assert (touched.status_code, error_of(touched)["code"]) == (409, "conflict")
        until(events, "decided")
        stopped = expert.http.delete(f"/phones/{phone}/task")
        assert stopped.json()["task"] is None
        end = until(events, "ended")
        assert (end["outcome"], end["reached"]) == ("cancelled", None)
    assert expert.act(phone, kind="home").status_code == 200


def test_a_confirmed_purchase(expert: Console) -> None:
    phone, text = buying(expert)
    events = expert.run(phone, text, answering(expert, phone, True))
    assert [e["granted"] for e in of("answered", events)] == [True]
    assert (events[-1]["outcome"], events[-1]["reached"]) == ("finished", True)
    assert expert.post(phone, "answer", question=1, allow=True).status_code == 409


def test_a_denied_purchase(expert: Console) -> None:
    phone, text = buying(expert)
    events = expert.run(phone, text, answering(expert, phone, False))
    asked = of("asked", events)[0]
    assert asked["question"]["kind"] == "confirm"
    assert (events[-1]["outcome"], events[-1]["reached"]) == ("denied", False)
    assert not [e for e in of("acted", events) if e["step"] == asked["step"]]


def test_only_the_open_question_is_answered(expert: Console) -> None:
    phone, text = buying(expert)

    def each(event: Event) -> None:
        if event["type"] == "asked":
            number = event["question"]["question"]
            assert expert.post(phone, "answer", question=number + 1, allow=True).status_code == 409
            assert expert.act(phone, kind="home").status_code == 409
            assert expert.post(phone, "answer", question=number, allow=True).status_code == 200

    assert expert.run(phone, text, each)[-1]["reached"] is True


def test_the_model_hands_over(expert: Console) -> None:
    phone = expert.phone(seed=2)
    out = 'say: <think>log in</think><answer>do(action="Take_over", message="Please log in")'
    with expert.watch(phone) as events:
        assert expert.start(phone, out).status_code == 202
        question = until(events, "asked")["question"]
        assert (question["kind"], question["message"]) == ("take_over", "Please log in")
        assert expert.act(phone, kind="swipe", at=[800, 500], to=[200, 500]).status_code == 200
        assert expert.post(phone, "answer", question=question["question"], allow=False).status_code == 200
        assert until(events, "ended")["outcome"] == "denied"


def test_a_person_takes_over_and_hands_back(expert: Console) -> None:
    phone = expert.phone(seed=11, language="en")
    text = expert.suggestions(phone)[0]
    with expert.watch(phone) as events:
        assert expert.start(phone, text, pause=1).status_code == 202
        until(events, "decided")
        assert expert.post(phone, "take-over").json()["task"]["status"] == "pausing"
        until(events, "timed")
        wait_until(lambda: expert.state(phone)["task"]["status"] == "paused", what="a paused task")
        # Nothing that would lead the expert astray: without a field there is nothing to type into.
        assert expert.act(phone, kind="type", text="x").json() == {"changed": False}
        assert expert.post(phone, "resume").json()["task"]["status"] == "running"
        assert expert.post(phone, "resume").status_code == 409
        assert until(events, "ended")["reached"] is True


@pytest.mark.parametrize(
    ("output", "outcome"),
    [
        ("say: I would rather not", "unparseable"),
        ('say: <think>x</think><answer>do(action="Tap", element=[5,5])', "stuck"),
        ('say: <think>x</think><answer>finish(message="ok")', "finished"),
    ],
)
def test_what_a_model_may_write(expert: Console, output: str, outcome: str) -> None:
    end = expert.run(expert.phone(seed=2), output)[-1]
    assert (end["outcome"], end["reached"]) == (outcome, None)


def test_removing_a_phone_ends_its_task_and_its_streams(expert: Console) -> None:
    phone = expert.phone(seed=11, language="en")
    with expert.watch(phone) as events:
        assert expert.start(phone, expert.suggestions(phone)[0], pause=5).status_code == 202
        until(events, "decided")
        assert expert.http.delete(f"/phones/{phone}").status_code == 204
        rest = list(events)
    assert [e["type"] for e in rest if e["type"] in ("ended", "closed")] == ["ended", "closed"]


def test_what_nobody_uses_or_watches_ends() -> None:
    with scripted(phone_idle=3.0, unwatched=0.4) as console:
        busy, idle = console.phone(seed=11, language="en"), console.phone()
        text = console.suggestions(busy)[0]
        assert console.start(busy, text, pause=5).status_code == 202
        # Reading the list uses no phone.
        wait_until(lambda: console.http.get("/phones").json()["phones"] == [], what="phones put away")
        assert console.http.get(f"/phones/{idle}").status_code == 404
        watched = console.phone(seed=11, language="en")
        with console.watch(watched) as events:
            assert console.start(watched, console.suggestions(watched)[0]).status_code == 202
            assert until(events, "ended")["reached"] is True


def test_a_viewer_that_leaves_is_forgotten(expert: Console) -> None:
    phone = expert.phone(seed=11, language="en")
    for _ in range(5):
        with httpx.stream("GET", f"{expert.url}/console/api/phones/{phone}/events", timeout=60) as response:
            if response.status_code == 429:
                wait_until(lambda: expert.http.get(f"/phones/{phone}").status_code == 200)
            next(response.iter_lines())
    events = expert.run(phone, expert.suggestions(phone)[0])
    assert events[-1]["reached"] is True
