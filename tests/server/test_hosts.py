"""Which names a server answers to."""

from __future__ import annotations

import ipaddress
import socket

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse

from autoglm.errors import InvalidInputError
from autoglm.server import ServerConfig
from autoglm.server.guards import HostGuard, host_of, is_loopback
from tests.server.harness import LiveServer, error_of

OURS = ["localhost", "LOCALHOST:80", "localhost.", "a.localhost", "127.0.0.1", "127.9.9.9:8000", "[::1]:8000", "[::1]"]
FOREIGN = ["rebound.example:8000", "127.0.0.1.example", "localhost.example", "10.0.0.1", "[2001:db8::1]:80", "0.0.0.0"]


async def ask(bound: str, allowed: list[str], host: str) -> httpx.Response:
    """One request through the guard alone."""
    guard = HostGuard(PlainTextResponse("in"), bound, allowed)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://localhost") as client:
        return await client.get("/", headers={"Host": host})


@pytest.mark.parametrize("bound", ["127.0.0.1", "localhost", "::1"])
async def test_on_loopback_only_its_names_and_the_given_ones(bound: str) -> None:
    for host in [*OURS, "phone.example", "Phone.Example:8000"]:
        assert (await ask(bound, ["phone.example"], host)).text == "in", host
    for host in [*FOREIGN, "", "x.phone.example"]:
        refused = await ask(bound, ["phone.example"], host)
        error = error_of(refused)
        assert (refused.status_code, error["code"], error["param"]) == (403, "forbidden", "Host"), host
        assert (error["limit"], error["value"]) == ("localhost, phone.example", host)


async def test_elsewhere_only_if_names_are_given() -> None:
    for host in [*OURS, *FOREIGN]:
        assert (await ask("0.0.0.0", [], host)).text == "in"
        assert (await ask("0.0.0.0", ["phone.example"], host)).status_code == (200 if host in OURS else 403), host


@given(st.ip_addresses(), st.none() | st.integers(0, 65535))
def test_every_address_is_read_out_of_a_header(address: ipaddress.IPv4Address, port: int | None) -> None:
    written = f"[{address}]" if address.version == 6 else str(address)
    assert host_of(written if port is None else f"{written}:{port}") == str(address)
    assert host_of(str(address)) == str(address) or address.version == 6
    assert is_loopback(str(address)) == address.is_loopback


def test_an_empty_name_cannot_be_allowed() -> None:
    with pytest.raises(InvalidInputError) as caught:
        ServerConfig(allowed_hosts=("",))
    assert caught.value.field == "allowed_hosts"


def test_a_rebound_page_reads_nothing_from_a_real_server(server: LiveServer) -> None:
    port = httpx.URL(server.url).port
    paths = ("/", "/health", "/metrics", "/v1/models", "/console/", "/console/api/phones", "/console/static/app.js")
    for path in paths:
        for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
            assert server.http.get(path, headers={"Host": host}).status_code == 200, (path, host)
        refused = server.http.get(path, headers={"Host": f"rebound.example:{port}"})
        assert (refused.status_code, error_of(refused)["param"]) == (403, "Host"), path
    made = server.http.post("/console/api/phones", json={}, headers={"Host": "rebound.example"})
    assert made.status_code == 403
    assert server.http.get("/console/api/phones").json()["phones"] == []


def test_two_names_or_none(server: LiveServer) -> None:
    for headers in ("Host: localhost\r\nHost: rebound.example\r\n", ""):
        with server.raw() as connection:
            connection.sendall(f"GET /v1/models HTTP/1.0\r\n{headers}\r\n".encode())
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(4096).split()[1] in (b"400", b"403"), headers
