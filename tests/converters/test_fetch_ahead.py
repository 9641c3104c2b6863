"""Pictures that are asked for ahead: bounds on what is asked at a time, and what a killed run leaves behind."""

import asyncio
import io
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpcore
import pytest
from loopback import Answer, Web, make_picture
from PIL import Image

from converters.fetch import FetchPolicy, FetchSpool, ImageCache, ImageFetcher
from converters.fetch.download import Downloader
from converters.fetch.network import _HostQueue
from grain_molmo.errors import FetchError, RowError

NOW = "2026-01-31T12:00:00Z"


def fetcher(spool: FetchSpool | None = None, cache: ImageCache | None = None, **policy) -> ImageFetcher:
    bounds = FetchPolicy(allow_private=True, **policy)
    return ImageFetcher(
        bounds, cache, spool=spool, sleep=lambda s: None, now=lambda: NOW, resolve=lambda host, port: ["127.0.0.1"]
    )


def at(host: str, url: str) -> str:
    return url.replace("127.0.0.1", host)


def failure(fetch: ImageFetcher, url: str) -> RowError:
    with pytest.raises(RowError) as caught:
        fetch.fetch(url)
    return caught.value


def test_connections_are_bounded_overall_and_per_host(web: Web, tmp_path: Path):
    urls = [at(f"{host}.test", web.picture(i)) for i, host in enumerate("aaaaaabbbbbbcccccc")]
    web.gate.clear()
    with FetchSpool(tmp_path) as spool, fetcher(spool, connections=5, per_host=2) as fetch:
        fetch.prefetch((url, None) for url in urls)
        web.wait_for(requests=5)  # not 2 of the first host, nor all
        web.gate.set()
        assert [fetch.fetch(url).data for url in urls] == [make_picture(i) for i in range(18)]
    assert web.most["all"] == 5
    assert web.most["a.test"] == web.most["b.test"] == 2
    assert web.most["c.test"] <= 2
    assert len(web.requests) == 18


def test_a_host_that_never_answers_stalls_no_other(web: Web, tmp_path: Path):
    dead = [at("dead.test", web.serve(f"/dead{i}", Answer(never=True))) for i in range(20)]
    alive = [at("alive.test", web.picture(i)) for i in range(20)]
    with FetchSpool(tmp_path) as spool, fetcher(spool, connections=4, per_host=2) as fetch:
        fetch.prefetch((url, None) for url in dead + alive)
        assert [fetch.fetch(url).data for url in alive] == [make_picture(i) for i in range(20)]
        assert sum(path.startswith("/dead") for path in web.requests) == 2


def test_a_url_that_waits_to_be_tried_again_holds_no_connection(web: Web):
    waits, go = threading.Event(), threading.Event()

    async def wait_for_go(seconds: float) -> None:
        waits.set()
        while not go.is_set():
            await asyncio.sleep(0.001)

    url = web.serve("/busy", Answer(status=503), make_picture(1))
    policy = FetchPolicy(allow_private=True, connections=1)
    with ImageFetcher(policy, sleep=wait_for_go) as fetch, ThreadPoolExecutor(1) as pool:
        busy = pool.submit(fetch.fetch, url)
        assert waits.wait(30)
        assert fetch.fetch(web.picture(2)).data == make_picture(2)
        assert not busy.done()
        go.set()
        assert busy.result().data == make_picture(1)


def test_large_bodies_take_turns_in_memory(web: Web, tmp_path: Path):
    out = io.BytesIO()
    Image.effect_noise((1500, 1500), 200).save(out, "PNG")
    assert out.tell() > 1 << 20
    urls = [web.serve(f"/{i}", out.getvalue()) for i in range(8)]
    with FetchSpool(tmp_path) as spool, fetcher(spool, memory_bytes=out.tell() + 1) as fetch:
        fetch.prefetch((url, None) for url in urls)
        assert {fetch.fetch(url).info.width for url in urls} == {1500}


def test_small_bodies_that_nobody_looks_at_yet_take_bounded_memory():
    body = bytes(1000)
    answer = httpcore.AsyncMockBackend([b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", body])
    held, most = 0, 0

    async def look_at(downloader: Downloader, number: int) -> None:
        nonlocal held, most
        async with downloader.answer(f"http://host{number}/") as found:
            held += len(found.data)
            most = max(most, held)
            for _ in range(50):
                await asyncio.sleep(0)  # others arrive meanwhile
            held -= len(found.data)

    async def look_at_all() -> None:
        policy = FetchPolicy(memory_bytes=4500)
        downloader = Downloader(policy, resolve=lambda host, port: ["1.1.1.1"], backend=answer)
        await asyncio.gather(*(look_at(downloader, number) for number in range(30)))
        await downloader.aclose()

    asyncio.run(look_at_all())
    assert 1000 < most <= 4000


def test_what_is_stopped_before_its_first_step_leaves_nobody_waiting():
    async def nothing() -> None:
        pytest.fail("it was stopped")

    async def stop_at_once() -> Future[None]:
        queue, future = _HostQueue(1, 1), Future[None]()
        queue.put("host", (nothing, future))
        (task,) = asyncio.all_tasks() - {asyncio.current_task()}
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return future

    assert asyncio.run(stop_at_once()).cancelled()


def test_a_body_larger_than_all_of_the_memory_has_it_alone(web: Web):
    out = io.BytesIO()
    Image.effect_noise((1500, 1500), 200).save(out, "PNG")
    with fetcher(memory_bytes=1000) as fetch:
        assert fetch.fetch(web.serve("/a", out.getvalue())).info.height == 1500


def test_pictures_asked_for_ahead_are_asked_for_once(web: Web, tmp_path: Path):
    urls = [web.picture(i) for i in range(30)]
    with FetchSpool(tmp_path) as spool, fetcher(spool) as fetch:
        fetch.prefetch([(url, None) for url in urls] * 2)
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(fetch.fetch, urls * 2))
        fetch.prefetch((url, None) for url in urls)
        assert [picture.data for picture in found] == [make_picture(i) for i in range(30)] * 2
    assert sorted(web.requests) == sorted(f"/{i}.png" for i in range(30))


def test_failures_asked_for_ahead_are_raised_where_they_are_wanted(web: Web, tmp_path: Path):
    gone, page, busy = web.url("/gone"), web.serve("/page", b"<html>"), web.serve("/busy", Answer(status=503))
    with FetchSpool(tmp_path) as spool, fetcher(spool) as fetch:
        fetch.prefetch([(gone, None), (page, None), (busy, None), ("file:///etc/hostname", None), (page, "0" * 64)])
        found = [failure(fetch, url) for url in (gone, page, busy)]
        assert failure(fetch, "file:///etc/hostname").reason == "bad_url"
        with pytest.raises(FetchError, match="hash_mismatch"):
            fetch.fetch(page, "0" * 64)
    assert [(error.reason, error.attempts, error.time) for error in found if isinstance(error, FetchError)] == [
        ("http_404", 1, NOW),
        ("not_an_image", 1, NOW),
        ("http_503", 3, NOW),
    ]


def test_without_a_spool_nothing_is_asked_for_ahead(web: Web, tmp_path: Path):
    with fetcher(cache=ImageCache(tmp_path)) as fetch:
        fetch.prefetch([(web.picture(), None)])
    with FetchSpool(tmp_path / "spool") as spool, ImageFetcher(cache_only=True, spool=spool) as fetch:
        fetch.prefetch([(web.picture(), None)])
        assert failure(fetch, web.picture()).reason == "not_in_cache"
    assert web.requests == []


def test_a_run_that_goes_on_asks_no_url_twice_and_finds_the_same(web: Web, tmp_path: Path):
    good, gone, busy = web.picture(1), web.url("/gone"), web.serve("/busy", Answer(status=500))
    found = []
    for _ in range(2):
        with FetchSpool(tmp_path) as spool, fetcher(spool) as fetch:
            errors = [failure(fetch, url) for url in (gone, busy)]
            found.append((fetch.fetch(good).data, [(vars(error), str(error)) for error in errors]))
    assert found[0] == found[1]
    assert len(web.requests) == 1 + 1 + 3
    with FetchSpool(tmp_path / "next") as spool, fetcher(spool) as fetch:
        failure(fetch, gone)
    assert web.requests[5:] == ["/gone"]


def test_with_a_cache_pictures_stay_and_failures_go_with_the_run(web: Web, tmp_path: Path):
    cache = ImageCache(tmp_path / "cache")
    good, gone = web.picture(1), web.url("/gone")
    for run in ("first", "second"):
        with FetchSpool(tmp_path / run) as spool, fetcher(spool, cache) as fetch:
            assert fetch.fetch(good).data == make_picture(1)
            assert failure(fetch, gone).reason == "http_404"
        assert list(spool.pictures.folder.iterdir()) == []
    assert web.requests == ["/1.png", "/gone", "/gone"]


def test_a_cut_off_picture_of_the_users_own_cache_is_taken_as_it_is(web: Web, tmp_path: Path):
    """The published pipeline loads such pictures; those that a server cuts off are refused when they come."""
    cache = ImageCache(tmp_path)
    url = web.picture(1, (300, 200))
    half = make_picture(1, (300, 200))[:200]
    cache.write(url, half)
    with fetcher(cache=cache) as fetch:
        assert fetch.fetch(url).data == half
    assert web.requests == []


@pytest.mark.parametrize("cut", [0, 1, 30, -1])
def test_a_line_that_a_kill_cut_off_counts_as_never_written(tmp_path: Path, cut: int):
    path = tmp_path / "failures.jsonl"
    errors = {f"http://host/{i}": FetchError("http_404", f"é {i}", i, NOW) for i in range(4)}
    with FetchSpool(tmp_path) as spool:
        for url in list(errors)[:2]:
            spool.add_failure(url, None, errors[url])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:cut])
    with FetchSpool(tmp_path) as spool:
        assert spool.failure("http://host/1", None) is None or cut == -1
        for url in list(errors)[2:]:
            spool.add_failure(url, None, errors[url])
    with FetchSpool(tmp_path) as spool:
        for url in ("http://host/0", "http://host/2", "http://host/3"):
            found = spool.failure(url, None)
            assert found is not None
            assert vars(found) == vars(errors[url])
        assert spool.failure("http://host/2", "0" * 64) is None


def test_two_processes_write_one_spool(tmp_path: Path):
    program = f"""
import sys
from converters.fetch import FetchSpool
from grain_molmo.errors import FetchError
with FetchSpool({str(tmp_path)!r}) as spool:
    for i in range(300):
        url = f"http://host/{{sys.argv[1]}}/{{i}}"
        spool.add_failure(url, None, FetchError("http_404", "x" * i, 1, {NOW!r}))
        assert spool.failure(url, None).detail == "x" * i
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    both = [subprocess.Popen([sys.executable, "-c", program, name], env=environment) for name in "ab"]
    assert [process.wait() for process in both] == [0, 0]
    lines = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    assert len({line["url"] for line in lines}) == 600


def test_closing_ends_those_who_wait(web: Web):
    fetch = fetcher()
    url = web.serve("/never", Answer(never=True))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(fetch.fetch, url)
        web.wait_for(requests=1)
        fetch.close()
        fetch.close()
        assert isinstance(waiting.exception(), Exception)
        assert not isinstance(waiting.exception(), RowError)
