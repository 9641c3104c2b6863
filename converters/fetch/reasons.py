"""Why a picture cannot be had by its URL: the words that rejects are grouped by, and which of them may pass.

A failure that may pass is tried again within a run, as often as `FetchPolicy.attempts` says, and a later run may try it
once more.
"""

REASONS: dict[str, tuple[str, bool]] = {
    # word: (what happened, whether it may pass)
    "unknown_host": ("the name of the host leads nowhere", True),
    "timeout": ("no connection, no answer, or no complete answer in time", True),
    "transport_error": ("the connection failed or broke off, or TLS or HTTP went wrong on it", True),
    "http_408": ("the server gave up waiting (likewise http_425, http_429 and every http_5xx)", True),
    "http_404": ("the server refused (likewise every other http_3xx and http_4xx)", False),
    "bad_url": ("neither http nor https, or no address at all; also of a redirect", False),
    "private_address": ("an address that is not public, also by a redirect; see --allow-private", False),
    "too_many_redirects": ("redirected in a circle, or for too long", False),
    "too_many_bytes": ("larger than FetchPolicy.max_bytes, as announced, as sent, or once decompressed", False),
    "hash_mismatch": ("other bytes than the row's SHA-256 says", False),
    "empty": ("an answer without bytes", False),
    "not_an_image": ("a page or other bytes that no decoder of pictures knows", False),
    "truncated": ("a picture that ends before its last pixel", False),
    "too_large": ("a picture of more pixels than are decoded", False),
    "unreadable": ("a picture that no decoder can read", False),
    "not_in_cache": ("not in the image cache, and the network was not to be asked", False),
}

_PASSING_STATUSES = frozenset({408, 425, 429})


def may_pass(reason: str) -> bool:
    """Whether what a row was rejected for may be over by another time; of any reason, also of rows without pictures."""
    kind, _, status = reason.partition("_")
    if kind == "http" and status.isdecimal():
        return int(status) in _PASSING_STATUSES or int(status) >= 500
    return REASONS.get(reason, ("", False))[1]
