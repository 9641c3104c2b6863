"""Loading what rows refer to: checked, measured and hashed, in threads, with few bytes waiting to be written."""

import contextlib
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from converters.fetch import ImageFetcher, Picture, check_picture
from converters.frames import frame_windows
from converters.spec import Drawn, Embedded, EmbeddedVideo, FromCache, FromFile, FromUrl, FromVideo, MediaSource
from grain_molmo.errors import FetchError, MediaError, RowError, StoreError
from grain_molmo.store import MediaRef, Medium, VideoFacts, content_key
from grain_molmo.vision.prepared import prepare_frames
from grain_molmo.vision.video import probe_video

T = TypeVar("T")
R = TypeVar("R")

# What a picture counts for before its size is known, and the prepared frames of a video: their usual sizes, rounded up.
PICTURE_BYTES = 1 << 20
FRAMES_BYTES = 16 << 20

# Files and frames that are remembered, a kilobyte each.
_MOST_KNOWN = 1 << 16
_Outcome = MediaRef | tuple[str, str]  # or the reason and detail of a RowError


class MediaLoader:
    """Loads media for one run; safe to share between threads.

    A video that several rows speak of is read and probed once as long as its file stays the same.

    Args:
        fetcher: for pictures by URL.
    """

    def __init__(self, fetcher: ImageFetcher):
        self._fetcher = fetcher
        self._known: OrderedDict[Hashable, _Outcome] = OrderedDict()
        self._under_way: dict[Hashable, Future[_Outcome]] = {}
        self._files: set[Path] = set()
        self._lock = threading.Lock()

    def load(self, sources: Sequence[MediaSource]) -> list[Medium]:
        """The media of a row, all of them. Raises RowError for the first that cannot be had, and says which it was."""
        media = []
        for position, source in enumerate(sources, 1):
            try:
                media.append(self._load(source))
            except RowError as error:
                if len(sources) == 1:
                    raise
                detail = f"picture {position} of {len(sources)}: {error.detail}"
                if isinstance(error, FetchError):
                    raise FetchError(error.reason, detail, error.attempts, error.time) from error
                raise RowError(error.reason, detail) from error
        return media

    def _load(self, source: MediaSource) -> Medium:
        if isinstance(source, FromVideo):
            return self._video(source.path)
        if isinstance(source, FromFile):
            return self._file(source.path)
        if isinstance(source, EmbeddedVideo):
            return Medium(video_ref(source.data), lambda: source.data)
        picture = load_picture(source, self._fetcher)
        return Medium(_picture_ref(picture), lambda: picture.data)

    def _file(self, path: Path) -> Medium:
        """A picture in a file, which many rows may name."""
        with _missing(path, "missing_image"):
            facts = path.stat()
        read: list[Picture] = []  # by this call, if it is the first

        def load() -> MediaRef:
            read.append(load_picture(FromFile(path), self._fetcher))
            return _picture_ref(read[0])

        ref = self._once((path, facts.st_size, facts.st_mtime_ns), load)
        if len(self._files) < _MOST_KNOWN:
            self._files.add(path)
        return Medium(ref, (lambda: read[0].data) if read else (lambda: _read_again(path, ref)))

    def is_at_hand(self, sources: Sequence[MediaSource]) -> bool:
        """Whether loading the media of a row waits for nothing, so that it is not worth a thread."""
        return all(
            isinstance(source, Embedded) or (isinstance(source, FromFile) and source.path in self._files)
            for source in sources
        )

    def _video(self, path: Path) -> Medium:
        read: list[bytes] = []  # by this call, if it is the first

        def probe() -> MediaRef:
            read.append(_read_video(path))
            return video_ref(read[0])

        with _missing(path, "missing_video"):
            facts = path.stat()
        ref = self._once((path, facts.st_size, facts.st_mtime_ns), probe)
        return Medium(ref, (lambda: read[0]) if read else (lambda: _read_again(path, ref)))

    def frames(self, video: Medium, requests: Sequence[Mapping[str, Any]], clip: Sequence[float] | None) -> Medium:
        """The frames that the stages will ask for of a video; see `frame_windows`. Raises RowError."""
        windows = frame_windows(video.ref, requests, clip)
        prepared: list[bytes] = []

        def prepare() -> MediaRef:
            prepared.append(_prepared(video, windows))
            whole = video.ref
            return MediaRef(
                content_key(prepared[0]), "frames", whole.width, whole.height, len(prepared[0]), whole.video
            )

        key = (video.ref.sha256, tuple((start_s, times_s.tobytes()) for start_s, times_s in windows))
        ref = self._once(key, prepare)
        return Medium(ref, (lambda: prepared[0]) if prepared else (lambda: _prepared(video, windows)))

    def _once(self, key: Hashable, make: Callable[[], MediaRef]) -> MediaRef:
        """What the first caller with this key makes, or the RowError that it meets; the others wait for it."""
        with self._lock:
            outcome = self._known.get(key)
            future = None if outcome else self._under_way.get(key)
            is_first = outcome is None and future is None
            if is_first:
                future = self._under_way[key] = Future()
        if is_first and future is not None:
            self._make(key, make, future)
        if outcome is None and future is not None:
            outcome = future.result()
        if isinstance(outcome, MediaRef):
            return outcome
        raise RowError(*(outcome or ()))

    def _make(self, key: Hashable, make: Callable[[], MediaRef], future: "Future[_Outcome]") -> None:
        try:
            try:
                outcome: _Outcome = make()
            except RowError as error:
                # As a value: a raised error remembers where it was raised, and with that the bytes of the video.
                outcome = (error.reason, error.detail)
            future.set_result(outcome)
            with self._lock:
                self._known[key] = outcome
                while len(self._known) > _MOST_KNOWN:
                    self._known.popitem(last=False)
        except BaseException as error:
            future.set_exception(error)
        finally:
            with self._lock:
                del self._under_way[key]


def num_bytes(sources: Sequence[MediaSource], with_frames: bool) -> int:
    """About how many bytes the media of a row hold until they are written."""
    total = 0
    for source in sources:
        if isinstance(source, FromVideo):
            with contextlib.suppress(OSError):  # a file that is not there is rejected when it is read
                total += source.path.stat().st_size
            total += FRAMES_BYTES if with_frames else 0
        elif isinstance(source, EmbeddedVideo):
            total += len(source.data)
        else:
            total += PICTURE_BYTES
    return total


def ordered_map(
    pool: ThreadPoolExecutor,
    function: Callable[[T], R],
    items: Iterable[T],
    cost: Callable[[T], int],
    limit: int,
    is_at_hand: Callable[[T], bool] = lambda item: False,
) -> Iterator[R]:
    """Results of the function in the order of the items.

    Those begun and not yet taken cost at most `limit` together, whatever the number of workers; an item that costs more
    is begun when nothing else is. Of items at hand the function is called without the pool.
    """
    pending: deque[tuple[Callable[[], R], int]] = deque()
    total = 0
    for item in items:
        if is_at_hand(item) and not pending:
            yield function(item)
            continue
        price = max(1, cost(item))
        while pending and total + price > limit:
            result, paid = pending.popleft()
            yield result()
            total -= paid
            del result  # it may be large
        pending.append((pool.submit(function, item).result, price))
        total += price
    while pending:
        yield pending.popleft()[0]()


def load_picture(source: MediaSource, fetcher: ImageFetcher) -> Picture:
    """The picture that a row speaks of. Raises RowError."""
    match source:
        case FromUrl(url, sha256):
            return fetcher.fetch(url, sha256)
        case FromCache(key):
            return fetcher.cached(key)
        case Embedded(data):
            return check_picture(data)
        case FromFile(path):
            with _missing(path, "missing_image"):
                data = path.read_bytes()
            return check_picture(data)
        case Drawn(draw):
            return check_picture(draw())
        case FromVideo(path):
            raise RowError("not_an_image", f"{path} is a video")
        case EmbeddedVideo():
            raise RowError("not_an_image", "the row holds a video")


def _picture_ref(picture: Picture) -> MediaRef:
    info = picture.info
    return MediaRef(content_key(picture.data), "image", info.width, info.height, len(picture.data))


def video_ref(data: bytes) -> MediaRef:
    """What is known of a video's bytes. Raises RowError with the reason that they are refused for."""
    try:
        info = probe_video(data)
    except MediaError as error:
        raise RowError(error.reason, error.detail) from error
    facts = VideoFacts(info.duration_s, info.num_frames, info.fps)
    return MediaRef(content_key(data), "video", info.width, info.height, len(data), facts)


@contextlib.contextmanager
def _missing(path: Path, reason: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise RowError(reason, f"{path}: {error}") from error


def _read_video(path: Path) -> bytes:
    with _missing(path, "missing_video"):
        return path.read_bytes()


def _read_again(path: Path, ref: MediaRef) -> bytes:
    data = path.read_bytes()
    if content_key(data) != ref.sha256:
        raise StoreError(f"{path} was changed while it was being converted; convert again")
    return data


def _prepared(video: Medium, windows: Sequence[tuple[float, Any]]) -> bytes:
    try:
        return prepare_frames(video.read(), windows)
    except MediaError as error:
        raise RowError(error.reason, error.detail) from error
