"""Every mistake gets its status and names its field; the server fixture then proves nothing leaked."""

from __future__ import annotations

import base64
import json
import struct
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from autoglm.server.protocol import NEUTRAL
from tests.server.harness import LiveServer, chat_body, data_url, error_of, image_message, png

URL_FIELD = "messages[0].content[0].image_url.url"


def header_only_png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


def refused(server: LiveServer, status: int = 400, **fields: Any) -> dict[str, Any]:
    answer = server.chat(**fields)
    assert answer.status_code == status, answer.text
    error = error_of(answer)
    streamed = server.chat(stream=True, **fields)
    assert (streamed.status_code, error_of(streamed)["param"]) == (status, error["param"])
    assert server.http.get("/health/live").status_code == 200
    return error


@pytest.mark.parametrize(
    "data",
    [
        png()[: len(png()) // 2],
        png()[:20],
        header_only_png(10_000, 10_000),
        header_only_png(0, 50),
        header_only_png(50, 0),
        header_only_png(2**31 - 1, 2**31 - 1),
        header_only_png(1, 5000),
        b"not an image",
        b"GIF89a" + bytes(50),
    ],
    ids=["truncated", "head", "100-megapixel", "no-width", "no-height", "huge", "aspect", "text", "gif"],
)
def test_bad_images(server: LiveServer, data: bytes) -> None:
    error = refused(server, messages=image_message(data_url(data)))
    assert error["code"] == "invalid_image"
    assert error["param"] == "messages[0].content[0]"


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,!!!!",
        "data:image/png;base64,abc",
        "data:image/png;base64,",
        "data:image/png,raw",
        "data:text/html;base64,aGk=",
        "data:image/png;base64",
        "ftp://host/a.png",
        "",
        "http://other.example/a.png",
        "https://127.0.0.1.other.example/a.png",
        "http://127.0.0.1@other.example/a.png",
        "http://[::1",
        "file:///etc/passwd",
    ],
)
def test_bad_image_urls(server: LiveServer, url: str) -> None:
    error = refused(server, messages=image_message(url))
    assert error["code"] == "invalid_image"
    assert error["param"] == URL_FIELD


def test_image_from_a_file(server: LiveServer, image_directory: Path) -> None:
    inside = (image_directory / "screen shot.png").as_uri()
    assert server.chat(messages=image_message(inside)).status_code == 200
    for path in ("link.png", "../secret.png", "none.png", ".", "%00"):
        error = refused(server, messages=image_message(f"file://{image_directory}/{path}"))
        assert error["param"] == URL_FIELD


@pytest.fixture
def image_host() -> Iterator[str]:
    """An HTTP server with one image, and a redirect to it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response({"/image.png": 200, "/moved": 302}.get(self.path, 404))
            self.send_header("Location", "/image.png")
            self.end_headers()
            if self.path == "/image.png":
                self.wfile.write(png())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    host = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=host.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{host.server_port}"
    host.shutdown()
    thread.join()
    host.server_close()


def test_image_from_an_allowed_host(server: LiveServer, image_host: str) -> None:
    fetched = server.chat(messages=image_message(f"{image_host}/image.png"))
    sent = server.chat(messages=image_message(data_url(png())))
    assert fetched.status_code == 200
    assert fetched.json()["choices"] == sent.json()["choices"]
    for path in ("moved", "none"):
        assert refused(server, messages=image_message(f"{image_host}/{path}"))["param"] == URL_FIELD


USER = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [USER, {"role": "wizard", "content": "x"}]}, "messages[1].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "video_url"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": 5}}]}]}, URL_FIELD),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": []}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "user", "content": "a" * 2**20}]}, "messages"),
        ({"messages": [{"role": "user", "content": "<|image|>"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "word " * 40_000}]}, "messages"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": 2.5}, "max_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"frequency_penalty": -3}, "frequency_penalty"),
        ({"presence_penalty": 9}, "presence_penalty"),
        ({"n": 0}, "n"),
        ({"n": -1}, "n"),
        ({"n": 1_000_000}, "n"),
        ({"seed": 2**70}, "seed"),
        ({"stop": ""}, "stop"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": [""]}, "stop[0]"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"99999999": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"stop_token_ids": [-1]}, "stop_token_ids[0]"),
        ({"stop_token_ids": [2**31 - 1]}, "stop_token_ids"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"unknown_field": 1}, "unknown_field"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_bad_fields(server: LiveServer, fields: dict[str, Any], param: str) -> None:
    if "stream" in fields:
        answer = server.chat(**fields)
        assert answer.status_code == 400
        error = error_of(answer)
    else:
        error = refused(server, **fields)
    assert error["param"] == param
    assert len(error["message"]) < 600


def test_unknown_model(server: LiveServer) -> None:
    assert refused(server, 404, model="another")["param"] == "model"


def test_stream_options_need_a_stream(server: LiveServer) -> None:
    answer = server.chat(stream_options={"include_usage": True})
    assert answer.status_code == 400
    assert error_of(answer)["param"] == "stream_options"


@pytest.mark.parametrize("field", sorted(NEUTRAL))
def test_fields_that_ask_for_what_there_is_not(server: LiveServer, field: str) -> None:
    error = refused(server, **{field: {"some": "thing"}})
    assert (error["param"], error["code"]) == (field, "unsupported_field")


def test_fields_that_ask_for_nothing(server: LiveServer) -> None:
    for field, values in NEUTRAL.items():
        for value in values:
            assert server.chat(max_tokens=1, **{field: value}).status_code == 200, field


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"model": "m", "temperature": NaN}',
        b'{"model": "m", "temperature": Infinity}',
        b'{"temperature": 1e400}',
        b'{"max_tokens": ' + b"9" * 5000 + b"}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        json.dumps(chat_body()).encode()[:-1],
    ],
    ids=lambda body: repr(body[:24]),
)
def test_bodies_that_are_not_a_request(server: LiveServer, body: bytes) -> None:
    answer = server.http.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400
    assert error_of(answer)["param"] == "body"


def test_a_lone_surrogate(server: LiveServer) -> None:
    body = json.dumps(chat_body(messages=[{"role": "user", "content": "\ud800"}])).encode()
    answer = server.http.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400
    assert error_of(answer)["param"] in ("body", "messages[0].content")


def test_one_bad_image_among_good_requests(server: LiveServer) -> None:
    bad = base64.b64encode(png()[:-30]).decode()
    assert server.chat(messages=image_message(f"data:image/png;base64,{bad}")).status_code == 400
    assert server.chat(messages=image_message(data_url(png()))).status_code == 200


@pytest.mark.parametrize("key", [None, "", "Bearer", "Bearer wrong", "Basic first-key", "first-key"])
def test_wrong_keys(strict_server: LiveServer, key: str | None) -> None:
    headers = {} if key is None else {"Authorization": key}
    for method, path in (("GET", "/v1/models"), ("GET", "/metrics"), ("POST", "/v1/chat/completions")):
        request = strict_server.http.build_request(method, path)
        request.headers.pop("Authorization")
        request.headers.update(headers)
        answer = strict_server.http.send(request)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"
        assert error_of(answer)["code"] == "invalid_api_key"


def test_right_keys(strict_server: LiveServer) -> None:
    for key in ("first-key", "second-key"):
        answer = strict_server.http.post(
            "/v1/chat/completions", json=chat_body(), headers={"Authorization": f"bearer {key}"}
        )
        assert answer.status_code == 200
    assert strict_server.http.get("/health", headers={"Authorization": ""}).status_code == 200
