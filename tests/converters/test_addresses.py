"""No row makes a converter speak with anything but the public internet, whatever its names lead to."""

import asyncio
import ipaddress
import threading

import httpcore
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import Answer, Web, make_picture

from converters.fetch import FetchPolicy, ImageFetcher
from converters.fetch.addresses import AddressRule, CheckedBackend, is_public
from grain_molmo.errors import FetchError

PRIVATE_V4 = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.8",
    "192.168.1.1",
    "198.18.0.1",
    "203.0.113.5",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
]
PRIVATE_V6 = ["::", "::1", "fe80::1", "fc00::1", "fec0::1", "ff02::1", "100::1", "2001:db8::1", "64:ff9b:1::808:808"]


def forms(v4: str) -> list[str]:
    """The IPv6 addresses that lead to an IPv4 address: mapped, compatible, NAT64, 6to4."""
    number = int(ipaddress.IPv4Address(v4))
    tails = [f"{prefix}{number >> 16:x}:{number & 0xFFFF:x}" for prefix in ("::ffff:", "::", "64:ff9b::")]
    return [*tails, f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1"]


@pytest.mark.parametrize("address", [*PRIVATE_V4, *PRIVATE_V6, "fe80::1%eth0", "::ffff:0:7f00:1"])
def test_special_addresses_are_not_public(address: str):
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("v4", PRIVATE_V4)
def test_an_address_is_as_public_as_the_one_within(v4: str):
    assert [is_public(ipaddress.ip_address(form)) for form in forms(v4)] == [False] * 4
    assert [is_public(ipaddress.ip_address(form)) for form in forms("8.8.8.8")] == [True] * 4


@given(st.ip_addresses())
def test_a_public_address_is_never_one_that_python_takes_for_special(address):
    if is_public(address):
        assert address.is_global
        assert not any((address.is_loopback, address.is_link_local, address.is_multicast, address.is_private))


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111"])
def test_servers_of_the_web_are_public(address: str):
    assert is_public(ipaddress.ip_address(address))


def test_a_policy_may_allow_hosts_addresses_and_networks():
    rule = AddressRule(FetchPolicy(allow_hosts=("Pictures.internal", "10.1.0.0/16", "127.0.0.1")))
    assert rule.allows("pictures.internal.", "192.168.0.1")
    assert rule.allows("elsewhere", "10.1.2.3")
    assert rule.allows("elsewhere", "127.0.0.1")
    assert not rule.allows("elsewhere", "10.2.2.3")
    assert not rule.allows("elsewhere", "127.0.0.2")
    assert not rule.allows("elsewhere", "not an address")
    assert AddressRule(FetchPolicy(allow_private=True)).allows("elsewhere", "127.0.0.1")


class Recorder(httpcore.AsyncMockBackend):
    """Connects to nothing, gives one answer, and remembers where it was asked to connect to."""

    def __init__(self, answer: bytes):
        super().__init__([answer])
        self.connected: list[str] = []

    async def connect_tcp(self, host: str, port: int, *args, **kwargs):
        self.connected.append(host)
        return await super().connect_tcp(host, port, *args, **kwargs)


def http(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def reason(fetcher: ImageFetcher, url: str) -> str:
    with fetcher, pytest.raises(FetchError) as caught:
        fetcher.fetch(url)
    return caught.value.reason


def test_what_was_checked_is_what_is_connected_to():
    """DNS rebinding: a name that leads to a public address when it is checked and to a private one a moment later."""
    answers = [["93.184.216.34"], ["127.0.0.1"]]
    backend = Recorder(http(make_picture()))
    with ImageFetcher(FetchPolicy(), resolve=lambda host, port: answers.pop(0), backend=backend) as fetcher:
        assert fetcher.fetch("http://rebinding.test/a").data == make_picture()
    assert backend.connected == ["93.184.216.34"]
    assert len(answers) == 1


def test_of_several_addresses_only_the_public_ones_are_tried():
    backend = Recorder(http(make_picture()))
    addresses = ["10.0.0.1", "::1", "2606:4700::1111"]
    with ImageFetcher(FetchPolicy(), resolve=lambda host, port: addresses, backend=backend) as fetcher:
        fetcher.fetch("http://both.test/a")
    assert backend.connected == ["2606:4700::1111"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "[::ffff:7f00:1]", "[::1]"])
def test_other_spellings_of_this_machine_are_refused(host: str):
    backend = Recorder(http(make_picture()))
    assert reason(ImageFetcher(FetchPolicy(), backend=backend), f"http://{host}/a") == "private_address"
    assert backend.connected == []


def test_a_redirect_to_a_private_address_is_refused(web: Web):
    """The first host is allowed, the one that it sends us to is not; it is never asked."""
    secret = web.serve("/secret", make_picture())
    url = web.serve("/a", Answer(status=302, headers={"Location": secret}))
    policy = FetchPolicy(allow_hosts=("friend.test",))
    fetcher = ImageFetcher(policy, resolve=lambda host, port: ["127.0.0.1"])
    assert reason(fetcher, url.replace("127.0.0.1", "friend.test")) == "private_address"
    assert web.requests == ["/a"]


def test_a_name_that_leads_nowhere_is_an_unknown_host():
    def resolve(host: str, port: int) -> list[str]:
        raise OSError("Name or service not known")

    waits: list[float] = []
    fetcher = ImageFetcher(FetchPolicy(), resolve=resolve, sleep=waits.append)
    assert reason(fetcher, "http://gone.test/a") == "unknown_host"
    assert len(waits) == 2


def test_a_proxy_of_the_environment_is_not_used(web: Web, monkeypatch: pytest.MonkeyPatch, caplog):
    """Through a proxy nobody could tell which address a name leads to."""
    monkeypatch.setenv("http_proxy", web.url("/"))
    monkeypatch.setenv("https_proxy", web.url("/"))
    fetcher = ImageFetcher(FetchPolicy(), resolve=lambda host, port: ["10.0.0.1"])
    assert reason(fetcher, "http://internal.test/a") == "private_address"
    assert web.requests == []
    assert "http_proxy, https_proxy" in caplog.text


def test_names_that_nobody_answers_for_hold_up_no_others():
    over = threading.Event()

    def resolve(host: str, port: int) -> list[str]:
        if host.startswith("dead"):
            over.wait()
        return ["1.1.1.1"]

    async def ask() -> list[object]:
        backend = CheckedBackend(httpcore.AsyncMockBackend([]), AddressRule(FetchPolicy()), resolve)
        waiting = [
            asyncio.ensure_future(backend.connect_tcp(f"dead{number}", 80))
            for number in range(FetchPolicy().connections)
        ]
        await asyncio.sleep(0)
        try:
            return [await backend.connect_tcp("alive", 80, timeout=20.0)]
        finally:
            over.set()
            await asyncio.gather(*waiting)
            backend.close()

    assert len(asyncio.run(ask())) == 1
