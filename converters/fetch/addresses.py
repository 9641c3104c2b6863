"""Which addresses a row may make us speak with, checked on the very address that is connected to."""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import httpcore

from converters.fetch.policy import FetchPolicy
from grain_molmo.errors import RowError

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], list[str]]

# Names looked up at a time. A look-up that hangs cannot be interrupted and goes on, often for many times the timeout:
# were there few threads, names that nobody answers for would leave none to the others. They are made when needed.
_RESOLVERS = 128
_MOST_ADDRESSES = 3  # of one host that are tried

_V6_UNICAST = IPv6Network("2000::/3")  # all that was ever handed out
_V4_IN_V6 = (IPv6Network("::ffff:0:0/96"), IPv6Network("::/96"), IPv6Network("64:ff9b::/96"))  # in the last 32 bits
_V4_PROTOCOLS = IPv4Network("192.0.0.0/24")  # some versions of Python take most of it for public


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet; of one that stands for an IPv4 address, whether that does."""
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast and address not in _V4_PROTOCOLS
    inner = _v4_within(address)
    if inner is not None:
        return is_public(inner)
    return address in _V6_UNICAST and address.is_global


def _v4_within(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a mapped, compatible, NAT64 or 6to4 address leads to."""
    if any(address in network for network in _V4_IN_V6):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.sixtofour


class AddressRule:
    """Whom a policy allows to connect to."""

    def __init__(self, policy: FetchPolicy):
        self._all = policy.allow_private
        self._names = frozenset(name.lower().rstrip(".") for name in policy.allow_hosts)
        self._networks: list[IPv4Network | IPv6Network] = []
        for name in policy.allow_hosts:
            with contextlib.suppress(ValueError):  # a name
                self._networks.append(ipaddress.ip_network(name, strict=False))

    def allows(self, host: str, address: str) -> bool:
        """Whether a host may be connected to at an address that its name leads to."""
        if self._all or host.lower().rstrip(".") in self._names:
            return True
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return is_public(found) or any(found in network for network in self._networks)


def system_addresses(host: str, port: int) -> list[str]:
    """The addresses that this machine finds for a name, in the order to try them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that a rule allows and to no others.

    A name is looked up once, and what was checked is what is connected to: a second look-up could give another address.
    TLS is unaffected, it checks the certificate against the name.

    Args:
        inner: opens the connections.
        rule: says to which addresses.
        resolve: finds the addresses of a name; blocks.
    """

    def __init__(self, inner: httpcore.AsyncNetworkBackend, rule: AddressRule, resolve: Resolve = system_addresses):
        self._inner = inner
        self._rule = rule
        self._resolve = resolve
        self._threads = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="resolve")

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first address of the host that is allowed and answers.

        Raises RowError: `unknown_host` or `private_address`; httpcore's errors if none of them answers.
        """
        found = await self._addresses(host, port, timeout)
        allowed = [address for address in found if self._rule.allows(host, address)]
        if not allowed:
            where = ", ".join(found)
            raise RowError("private_address", f"{host} is at {where}; --allow-host {host} would ask it")
        failure: Exception | None = None
        for address in allowed[:_MOST_ADDRESSES]:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.NetworkError, httpcore.TimeoutException) as error:
                failure = failure or error
        raise failure or httpcore.ConnectError(host)

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        await self._inner.sleep(seconds)

    def close(self) -> None:
        """Begins no further look-up."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _addresses(self, host: str, port: int, timeout: float | None) -> list[str]:
        look_up = asyncio.get_running_loop().run_in_executor(self._threads, self._resolve, host, port)
        try:
            found = await asyncio.wait_for(look_up, timeout)
        except TimeoutError:
            raise httpcore.ConnectTimeout(f"no address for {host} in time") from None
        except OSError as error:
            raise RowError("unknown_host", f"{host}: {error}") from error
        except UnicodeError as error:
            raise RowError("bad_url", f"{host!r} is no name of a host: {error}") from error
        if not found:
            raise RowError("unknown_host", f"{host} has no address")
        return found
