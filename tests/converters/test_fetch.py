import email.utils
import gzip
import time
import zlib
from collections.abc import Iterator
from typing import ClassVar

import httpcore
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import Answer, Web, make_picture, sha256

from converters.fetch import FetchPolicy, ImageCache, ImageFetcher, Picture
from converters.fetch.download import wait_before_next
from grain_molmo.errors import FetchError, RowError

QUICK = FetchPolicy(connect_timeout_s=0.5, read_timeout_s=0.5, max_bytes=10_000, allow_private=True)
NOW = "2026-01-31T12:00:00Z"


class Fetch:
    """A fetcher whose waits are written down instead of waited for; it is closed when the test is over."""

    made: ClassVar[list["Fetch"]] = []

    def __init__(self, policy: FetchPolicy = QUICK, cache: ImageCache | None = None, cache_only: bool = False):
        self.made.append(self)
        self.waits: list[float] = []
        self.fetcher = ImageFetcher(policy, cache, cache_only=cache_only, sleep=self.waits.append, now=lambda: NOW)

    def __call__(self, url: str, sha256: str | None = None) -> Picture:
        return self.fetcher.fetch(url, sha256)

    def failure(self, url: str, sha256: str | None = None) -> RowError:
        with pytest.raises(RowError) as caught:
            self(url, sha256)
        return caught.value

    def reason(self, url: str, sha256: str | None = None) -> str:
        return self.failure(url, sha256).reason


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while Fetch.made:
        Fetch.made.pop().fetcher.close()


def test_a_picture_comes_back_with_its_size_and_is_asked_for_once(web: Web):
    data = make_picture(3, (12, 34))
    fetch = Fetch()
    picture = fetch(web.serve("/a", data), sha256(data).upper())
    assert picture.data == data
    assert (picture.info.width, picture.info.height, picture.info.format) == (12, 34, "PNG")
    assert web.requests == ["/a"]
    assert fetch.waits == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_a_refusal_is_final(web: Web, status: int):
    assert Fetch().reason(web.serve("/a", Answer(make_picture(), status))) == f"http_{status}"
    assert len(web.requests) == 1


def test_a_server_error_is_tried_again_with_growing_waits(web: Web):
    fetch = Fetch()
    fetch(web.serve("/a", Answer(status=500), Answer(status=503), Answer(make_picture())))
    assert 1 <= fetch.waits[0] <= 3
    assert 2 <= fetch.waits[1] <= 6
    assert len(web.requests) == 3


def test_waits_are_spread_by_the_url_and_the_same_in_every_run():
    waits = [wait_before_next(QUICK, f"http://host/{i}", 1) for i in range(100)]
    assert waits == [wait_before_next(QUICK, f"http://host/{i}", 1) for i in range(100)]
    assert len(set(waits)) == 100
    assert min(waits) < 1.2 < 2.8 < max(waits)
    assert wait_before_next(QUICK, "http://host/", 30) == QUICK.max_wait_s


def test_a_server_error_that_lasts_is_named_after_a_bounded_number_of_attempts(web: Web):
    fetch = Fetch()
    failure = fetch.failure(web.serve("/a", Answer(status=500)))
    assert isinstance(failure, FetchError)
    assert (failure.reason, failure.attempts, failure.time) == ("http_500", 3, NOW)
    assert len(web.requests) == 3
    assert len(fetch.waits) == 2  # none after the last attempt


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [("7", 7.0), ("0", None), ("99999999", 30.0), ("soon", None), ("Fri, 01 Jan 2100 00:00:00 GMT", 30.0)],
)
def test_retry_after_is_heeded_within_reason(web: Web, header: str, wait_s: float | None):
    fetch = Fetch()
    url = web.serve("/a", Answer(status=429, headers={"Retry-After": header}), Answer(make_picture()))
    fetch(url)
    assert fetch.waits == [wait_s or wait_before_next(QUICK, url, 1)]


def test_retry_after_may_be_a_date(web: Web):
    header = email.utils.formatdate(time.time() + 20, usegmt=True)
    fetch = Fetch()
    fetch(web.serve("/a", Answer(status=429, headers={"Retry-After": header}), Answer(make_picture())))
    assert 15 < fetch.waits[0] <= 20


def test_redirects_are_followed(web: Web):
    web.picture(1)
    url = web.serve("/a", Answer(status=302, headers={"Location": "/b"}))
    web.serve("/b", Answer(status=301, headers={"Location": web.url("/1.png")}))
    assert Fetch()(url).data == make_picture(1)


@pytest.mark.parametrize(("together", "second"), [(False, 2), (True, 1)])
def test_what_a_server_sends_unasked_is_not_the_answer_to_the_next_request(together: bool, second: int):
    bodies = [make_picture(number) for number in (1, 2)]
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body) for body in bodies]
    sent = [b"".join(answers)] if together else answers  # of one connection
    backend = httpcore.AsyncMockBackend(sent)
    with ImageFetcher(QUICK, resolve=lambda host, port: ["1.1.1.1"], backend=backend) as fetcher:
        assert fetcher.fetch("http://host/a").data == bodies[0]
        assert fetcher.fetch("http://host/b").data == make_picture(second)


def test_redirects_in_a_circle_end(web: Web):
    assert Fetch().reason(web.serve("/a", Answer(status=302, headers={"Location": "/a"}))) == "too_many_redirects"
    assert len(web.requests) == QUICK.max_redirects + 1


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/a"])
def test_a_redirect_out_of_the_web_is_refused(web: Web, target: str):
    assert Fetch().reason(web.serve("/a", Answer(status=302, headers={"Location": target}))) == "bad_url"
    assert len(web.requests) == 1


@pytest.mark.parametrize(
    "url",
    ["file:///etc/hostname", "ftp://host/a", "data:,a", "/a.png", "http://", "", "http://[/a", "http://[::1%é]/a"],
)
def test_only_web_addresses_are_fetched(url: str):
    assert Fetch().reason(url) == "bad_url"


def test_no_address_is_anything_but_fetched_or_refused():
    nothing = httpcore.AsyncMockBackend([b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"])
    fetcher = ImageFetcher(FetchPolicy(attempts=1), resolve=lambda host, port: ["1.1.1.1"], backend=nothing)

    @settings(max_examples=100)
    @given(st.text(st.characters(exclude_categories=())))
    def check(text: str) -> None:
        for url in (text, f"http://host/{text}", f"http://{text}/a", f"http://host:{text}/"):
            with pytest.raises(RowError) as caught:
                fetcher.fetch(url)
            assert caught.value.reason in ("bad_url", "http_404")

    with fetcher:
        check()


def test_other_bytes_than_the_hash_says_are_refused(web: Web):
    assert Fetch().reason(web.picture(1), sha256(make_picture(2))) == "hash_mismatch"


def test_a_page_instead_of_a_picture_is_not_an_image(web: Web):
    page = Answer(b"<html>gone</html>", headers={"Content-Type": "image/png"})
    assert Fetch().reason(web.serve("/a", page)) == "not_an_image"


def test_an_empty_answer_is_refused(web: Web):
    assert Fetch().reason(web.serve("/a", b"")) == "empty"


def test_an_answer_that_is_too_large_is_not_read_to_its_end(web: Web):
    assert Fetch().reason(web.serve("/a", b"x" * 10_001)) == "too_many_bytes"
    assert len(web.requests) == 1


def test_an_answer_without_end_is_not_read_to_its_end(web: Web):
    assert Fetch().reason(web.serve("/a", Answer(b"x" * 1000, endless=True))) == "too_many_bytes"


def test_a_compressed_picture_is_decompressed_though_nobody_asked_for_it(web: Web):
    data = make_picture()
    for coding, body in (("gzip", gzip.compress(data)), ("deflate", zlib.compress(data))):
        assert Fetch()(web.serve(f"/{coding}", Answer(body, headers={"Content-Encoding": coding}))).data == data


def test_a_compressed_body_counts_by_what_it_grows_to(web: Web):
    bomb = Answer(gzip.compress(bytes(5 << 20)), headers={"Content-Encoding": "gzip"})
    assert len(bomb.body) < QUICK.max_bytes
    assert Fetch().reason(web.serve("/a", bomb)) == "too_many_bytes"


def test_a_compressed_body_that_is_cut_off_is_a_transport_error(web: Web):
    body = gzip.compress(make_picture())[:-9]
    assert Fetch().reason(web.serve("/a", Answer(body, headers={"Content-Encoding": "gzip"}))) == "transport_error"


def test_a_picture_that_was_cut_off_before_it_was_sent_is_refused_unless_the_row_wants_it_so(web: Web):
    whole = make_picture(1, (300, 200))
    half = whole[: len(whole) // 2]
    failure = Fetch().failure(web.serve("/a", half))
    assert isinstance(failure, FetchError)
    assert (failure.reason, failure.attempts) == ("truncated", 1)
    assert Fetch()(web.url("/a"), sha256(half)).data == half


def test_a_body_cut_off_is_tried_again(web: Web):
    data = make_picture()
    assert Fetch()(web.serve("/a", Answer(data[:50], missing_bytes=len(data) - 50), data)).data == data


def test_a_body_that_is_always_cut_off_is_a_transport_error(web: Web):
    assert Fetch().reason(web.serve("/a", Answer(make_picture()[:50], missing_bytes=9))) == "transport_error"


def test_a_server_that_never_answers_times_out(web: Web):
    fetch = Fetch(FetchPolicy(read_timeout_s=0.01, attempts=2, allow_private=True))
    assert fetch.reason(web.serve("/a", Answer(never=True))) == "timeout"
    assert len(web.requests) == 2


def test_an_answer_has_a_time_limit_as_a_whole(web: Web):
    fetch = Fetch(FetchPolicy(total_timeout_s=0.0, attempts=1, allow_private=True))
    assert fetch.reason(web.picture()) == "timeout"


def test_nobody_listening_is_a_transport_error(web: Web):
    url = web.url("/a")
    web.close()
    assert Fetch().reason(url) == "transport_error"


def test_the_cache_is_read_before_the_network(web: Web, tmp_path):
    url = web.picture(1)
    (tmp_path / sha256(url.encode())).write_bytes(make_picture(2))  # the published downloader's layout
    assert Fetch(cache=ImageCache(tmp_path))(url).data == make_picture(2)
    assert web.requests == []


def test_what_was_fetched_is_cached_under_the_hash_of_its_url(web: Web, tmp_path):
    url = web.picture(1)
    fetch = Fetch(cache=ImageCache(tmp_path / "new"))
    assert fetch(url) == fetch(url)
    assert web.requests == ["/1.png"]
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "new").iterdir()] == [
        (sha256(url.encode()), make_picture(1))
    ]


def test_no_failure_is_ever_cached(web: Web, tmp_path):
    fetch = Fetch(cache=ImageCache(tmp_path))
    fetch.reason(web.url("/missing"))
    fetch.reason(web.serve("/page", b"<html>"))
    fetch.reason(web.picture(1), "0" * 64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("junk", [b"", b"404 Client Error: Not Found for url", make_picture(9)])
def test_a_failure_that_another_program_cached_is_fetched_again_and_replaced(web: Web, tmp_path, junk: bytes):
    url, cache = web.picture(1), ImageCache(tmp_path)
    cache.write(url, junk)
    assert Fetch(cache=cache)(url, sha256(make_picture(1))).data == make_picture(1)
    assert cache.read(url) == make_picture(1)


def test_without_the_network_only_the_cache_counts(web: Web, tmp_path):
    url, cache = web.picture(1), ImageCache(tmp_path)
    fetch = Fetch(cache=cache, cache_only=True)
    assert fetch.reason(url) == "not_in_cache"
    cache.write(url, make_picture(2))
    assert fetch(url).data == make_picture(2)
    assert fetch.reason(url, sha256(make_picture(1))) == "hash_mismatch"
    assert web.requests == []
