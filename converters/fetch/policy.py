"""How pictures are fetched: the bounds, and the arguments of a command line that set them."""

import argparse
from dataclasses import dataclass

from grain_molmo.errors import ConfigError
from grain_molmo.tools.arguments import whole_number


@dataclass(frozen=True, kw_only=True)
class FetchPolicy:
    """How long and how hard to try, how much at a time, and whom to ask.

    Attributes:
        connections: answers waited for at a time.
        per_host: of them from one host. A URL that waits to be tried again counts as none.
        connect_timeout_s: for a name to be found and a connection to open, each.
        read_timeout_s: between two pieces of an answer.
        total_timeout_s: for one whole answer, so that a trickling server holds no connection.
        attempts: at most this many requests for one URL.
        backoff_s: wait before the second attempt, on average; doubles with each further one.
        max_wait_s: no wait is longer, whatever `Retry-After` says (some servers name a date years ahead).
        max_redirects: followed one after the other.
        max_bytes: a larger answer is refused, also one that only becomes larger when it is decompressed.
        memory_bytes: that the bodies of more than a megabyte take together, and smaller ones that wait to be looked at;
            others wait for their turn.
        allow_private: ask addresses that are not public, too. Rows come from strangers: without this none of them can
            make a converter speak with this machine, its network, or a cloud's metadata service.
        allow_hosts: ask these, wherever they are: names of hosts, addresses, or networks such as 10.0.0.0/8.
    """

    connections: int = 64
    per_host: int = 16
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 20.0
    total_timeout_s: float = 60.0
    attempts: int = 3
    backoff_s: float = 2.0
    max_wait_s: float = 30.0
    max_redirects: int = 5
    max_bytes: int = 64 << 20
    memory_bytes: int = 128 << 20
    allow_private: bool = False
    allow_hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("connections", "per_host", "attempts", "max_bytes", "memory_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"FetchPolicy.{name} must be at least 1, not {getattr(self, name)}")


_DEFAULT = FetchPolicy()


def add_fetch_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that `fetch_policy_from` reads."""
    group = parser.add_argument_group("fetching pictures")
    group.add_argument(
        "--connections",
        type=whole_number(1),
        default=_DEFAULT.connections,
        metavar="N",
        help=f"answers waited for at a time ({_DEFAULT.connections})",
    )
    group.add_argument(
        "--per-host",
        type=whole_number(1),
        default=_DEFAULT.per_host,
        metavar="N",
        help=f"of them from one host ({_DEFAULT.per_host})",
    )
    group.add_argument(
        "--timeout",
        type=_seconds,
        default=_DEFAULT.read_timeout_s,
        metavar="S",
        help=f"seconds that a server may be silent; a whole answer may take 3 times that ({_DEFAULT.read_timeout_s:g})",
    )
    group.add_argument(
        "--attempts",
        type=whole_number(1),
        default=_DEFAULT.attempts,
        metavar="N",
        help=f"requests for one picture, if what is wrong may pass ({_DEFAULT.attempts})",
    )
    group.add_argument(
        "--allow-private", action="store_true", help="fetch from this machine and private networks, too (rows decide!)"
    )
    group.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="HOST",
        help="fetch from this host, address or network (10.0.0.0/8), also if it is private; may be given several times",
    )


def fetch_policy_from(args: argparse.Namespace) -> FetchPolicy:
    """The policy that the arguments of `add_fetch_arguments` describe."""
    return FetchPolicy(
        connections=args.connections,
        per_host=args.per_host,
        connect_timeout_s=min(_DEFAULT.connect_timeout_s, args.timeout),
        read_timeout_s=args.timeout,
        total_timeout_s=3 * args.timeout,
        attempts=args.attempts,
        allow_private=args.allow_private,
        allow_hosts=tuple(args.allow_host),
    )


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, not {text}")
    return value
