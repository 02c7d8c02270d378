"""Clients that misbehave on the wire: slow, half-hearted, or gone."""

from __future__ import annotations

import json
import re
import socket
import time

import pytest

from tests.server.harness import LiveServer, chat_body, http_request, wait_until

KEY = "Authorization: Bearer first-key\r\n"
LONG = {"max_tokens": 4000, "ignore_eos": True}


def read_all(connection: socket.socket) -> bytes:
    found = bytearray()
    while data := connection.recv(65536):
        found += data
    return bytes(found)


def long_request(**fields: object) -> bytes:
    return http_request(json.dumps(chat_body(**(LONG | fields))).encode(), KEY)


def status_of(answer: bytes) -> int:
    match = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    assert match, answer[:100]
    return int(match[1])


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_is_cancelled(strict_server: LiveServer, stream: bool) -> None:
    with strict_server.raw() as connection:
        connection.sendall(long_request(stream=stream))
        if stream:
            assert status_of(connection.recv(4096)) == 200
        wait_until(lambda: strict_server.engine("running") == 1, what="a running request")
    strict_server.wait_idle()
    assert strict_server.metrics()['autoglm_requests_total{status="cancelled"}'] >= 1


def test_a_client_that_leaves_before_the_prompt_is_built(strict_server: LiveServer) -> None:
    for _ in range(5):
        with strict_server.raw() as connection:
            connection.sendall(long_request(stream=True))
    strict_server.wait_idle()


def test_a_reader_that_stops_is_cut_off(strict_server: LiveServer) -> None:
    before = strict_server.metrics().get('autoglm_requests_total{status="cancelled"}', 0)
    with strict_server.raw(receive_buffer=4096) as connection:
        # Long lines fill the buffers between the two ends.
        connection.sendall(long_request(stream=True, n=4, logprobs=True, top_logprobs=20))
        wait_until(lambda: strict_server.engine("running") == 4, what="running choices")
        wait_until(lambda: strict_server.engine("running") == 0, what="a cut")
        cut = strict_server.metrics()['autoglm_requests_total{status="cancelled"}']
        assert cut == before + 1
        strict_server.wait_idle()
        # The connection itself goes too: what is left in the buffers, then a reset or the end.
        try:
            rest = read_all(connection)
        except ConnectionResetError:
            rest = b""
        assert b"[DONE]" not in rest


def test_half_a_body(strict_server: LiveServer) -> None:
    with strict_server.raw() as connection:
        connection.sendall(http_request(b'{"model":', KEY + "Content-Length: 100\r\n"))
        answer = read_all(connection)
    assert status_of(answer) == 408
    assert b'"code":"body_timeout"' in answer


def test_half_a_head(strict_server: LiveServer) -> None:
    with strict_server.raw() as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost:")
        strict_server.wait_idle()
    assert strict_server.chat().status_code == 200


def test_a_declared_size_over_the_limit(strict_server: LiveServer) -> None:
    with strict_server.raw() as connection:
        connection.sendall(http_request(b"{", KEY + "Content-Length: 1000000\r\n"))
        answer = read_all(connection)
    assert status_of(answer) == 413
    assert b'"limit":20000' in answer
    assert b'"value":1000000' in answer


def test_chunks_over_the_limit(strict_server: LiveServer) -> None:
    with strict_server.raw() as connection:
        connection.sendall(http_request(b"", KEY + "Transfer-Encoding: chunked\r\n"))
        piece = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
        for _ in range(5):
            connection.sendall(piece)
            time.sleep(0.01)
        answer = read_all(connection)
    assert status_of(answer) == 413
    assert b'"code":"body_too_large"' in answer


def test_one_connection_serves_many(strict_server: LiveServer) -> None:
    request = http_request(json.dumps(chat_body()).encode(), KEY)
    last = http_request(json.dumps(chat_body()).encode(), KEY + "Connection: close\r\n")
    with strict_server.raw() as connection:
        connection.sendall(request + request + last)  # pipelined
        answers = read_all(connection)
    assert answers.count(b"HTTP/1.1 200 OK") == 3


def test_not_http(strict_server: LiveServer) -> None:
    with strict_server.raw() as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert status_of(read_all(connection)) == 400


def test_one_more_than_the_limit(strict_server: LiveServer) -> None:
    with strict_server.raw() as first, strict_server.raw() as second:
        for connection in (first, second):
            connection.sendall(long_request(stream=True))
        wait_until(lambda: strict_server.engine("running") == 2, what="two running requests")
        answer = strict_server.chat()
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["limit"] == 2
    strict_server.wait_idle()
    assert strict_server.chat().status_code == 200
