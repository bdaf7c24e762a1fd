"""Links lead to public addresses only, also by redirects, odd notations and names that change; and to small images."""

from __future__ import annotations

import asyncio
import ipaddress
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro.serving import links
from racro.serving.errors import ApiError
from racro.serving.limits import Limits

CLOSED = [
    ipaddress.ip_network(one)
    for one in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
]
CLOSED_V6 = [ipaddress.ip_network(one) for one in ("::/127", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8")]
closed = st.sampled_from(CLOSED).flatmap(lambda network: st.ip_addresses(network=network))
closed_v6 = st.sampled_from(CLOSED_V6).flatmap(lambda network: st.ip_addresses(network=network))


@given(closed | closed_v6)
def test_addresses_of_machines_and_their_networks_are_not_public(address: links.Address) -> None:
    assert not links.is_public(address)


@given(closed)
def test_nor_are_they_in_the_notations_of_ipv6(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    for prefix in ("::ffff:0:0", "::", "64:ff9b::"):
        assert not links.is_public(ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) + number)), prefix
    assert not links.is_public(ipaddress.IPv6Address((0x2002 << 112) + (number << 80)))  # 6to4
    assert not links.is_public(ipaddress.IPv6Address((0x20010000 << 96) + (number ^ 0xFFFFFFFF)))  # Teredo


def test_public_addresses_are_public() -> None:
    for address in ("1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"):
        assert links.is_public(ipaddress.ip_address(address)), address
    assert not links.is_public(ipaddress.ip_address("168.63.129.16")), "Azure's own"


class Site(BaseHTTPRequestHandler):
    """Pages of which each does one thing wrong."""

    def do_GET(self) -> None:
        where = self.path.partition("?")
        if where[0] == "/to":
            self.send_response(302)
            self.send_header("Location", where[2])
            self.end_headers()
            return
        if where[0] == "/gone":
            return self.send_error(404)
        self.send_response(200)
        if where[0] == "/zipped":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if where[0] == "/slow":
            time.sleep(3)
        if where[0] == "/endless":
            self.wfile.write(b"x" * 65_536)
        self.wfile.write(f"{self.headers['Host']}".encode())

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def fetched(link: str, private: bool = True) -> bytes:
    limits = Limits(image=10_000, link=1.0 if "/slow" in link else 60.0, private_links=private)
    return asyncio.run(links.fetch(link, 1, limits))


def refusal(link: str, private: bool = True) -> tuple[int, str]:
    with pytest.raises(ApiError) as refused:
        fetched(link, private)
    return refused.value.status, str(refused.value)


def test_an_image_is_fetched_where_this_is_allowed(site: str) -> None:
    assert fetched(f"{site}/a") == site.removeprefix("http://").encode(), "the host's name is kept"
    assert fetched(f"{site}/to?/a") and fetched(f"{site}/to?{site}/a")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::1]", "[::ffff:7f00:1]"]
)
def test_this_machine_is_not_asked_by_any_name(site: str, host: str) -> None:
    port = site.rpartition(":")[2]
    status, said = refusal(f"http://{host}:{port}/a", private=False)
    assert status == 400 and ("not public" in said or "not known" in said)


def test_a_redirect_is_looked_at_as_the_link_was(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "is_public", lambda address: str(address) == "127.0.0.1")
    port = site.rpartition(":")[2]
    assert fetched(f"{site}/a", private=False)
    assert "not public" in refusal(f"{site}/to?http://127.0.0.2:{port}/a", private=False)[1]


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/to?file:///etc/passwd", 400, "a link is of the kind http"),
        ("/to?http://me:secret@127.0.0.1/", 400, "must not hold a password"),
        ("/to?/to?/to?/to?/to?/a", 400, "more than 3 redirects"),
        ("/gone", 400, "the link answers 404"),
        ("/zipped", 400, "compressed"),
        ("/slow", 400, "does not answer within 1 s"),
        ("/endless", 413, "more than 10,000 bytes"),
    ],
)
def test_what_is_wrong_behind_a_link_is_one_line(site: str, path: str, status: int, said: str) -> None:
    got, words = refusal(f"{site}{path}")
    assert (got, said in words) == (status, True), words


@pytest.mark.parametrize(
    "link", ["file:///etc/passwd", "ftp://a/b", "//a/b", "http://", "x", "http://a b/", "http://[::1"]
)
def test_other_links_are_refused(link: str) -> None:
    assert refusal(link)[0] == 400
