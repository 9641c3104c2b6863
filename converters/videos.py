"""Finding a video in a folder by its id, in the layouts that the published pipeline keeps (Molmo2 datasets §1B.2)."""

import json
import logging
import os
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

log = logging.getLogger(__name__)

EXTENSIONS = (".mp4", ".mov", ".mkv", ".webm")
MOLMO_DATA_VARIABLE = "MOLMO_DATA_DIR"

_YOUTUBE_ID = re.compile(r"(?:[?&]v=|youtu\.be/|/(?:embed|shorts|v)/)([\w-]{11})")
_WILDCARDS = {"*", "**"}  # of layouts; an id is a name
_Found = tuple[tuple[str, ...], str]  # folders below the root, file name


def default_video_dir() -> Path | None:
    """Where the published pipeline keeps its videos: $MOLMO_DATA_DIR/video_datasets, if the variable is set."""
    root = os.environ.get(MOLMO_DATA_VARIABLE)
    return Path(root).expanduser() / "video_datasets" if root else None


class VideoFolder:
    """The videos under a folder, listed once: looking for one costs no access to the disk.

    A layout is a path below the folder with placeholders: `{id}` is the id, `{dir}` and `{name}` its parts before and
    after the last "/", `*` stands for any one folder or, as the last part, any file, `**` in front for any folders:

        youtube-cc/youtube-cc-exist/{id}/*     every file of the folder of that name
        generated_videos/{name}_2fps           a file of that name, whatever its extension

    Args:
        root: the folder; it need not exist before something is looked for.
    """

    def __init__(self, root: str | os.PathLike[str]):
        self.root = Path(root).expanduser()
        self._by_stem: dict[str, list[_Found]] = {}
        self._by_folder: dict[str, list[_Found]] = {}
        self._is_listed = False
        self._lock = threading.Lock()
        self._koala: dict[str, str] | None = None

    def find(self, video_id: str, layouts: Sequence[str]) -> Path | None:
        """The video of an id in the first layout that has one; of several files, the first by name."""
        self._list()
        if not _WILDCARDS.isdisjoint(video_id.split("/")):
            return None
        folder, _, name = video_id.rpartition("/")
        for layout in layouts:
            pattern = [part.format(id=video_id, dir=folder, name=name) for part in layout.split("/")]
            # An id with "/" makes a part of its own of each piece.
            parts = [piece for part in pattern for piece in part.split("/")]
            found = self._fitting(parts[:-1], parts[-1])
            if found:
                folders, file = min(found)
                return self.root.joinpath(*folders, file)
        return None

    def _fitting(self, folders: Sequence[str], last: str) -> list[_Found]:
        listed = self._by_folder.get(folders[-1], []) if last == "*" and folders else self._by_stem.get(last, [])
        return [one for one in listed if _fits(one[0], folders)]

    def _list(self) -> None:
        with self._lock:
            if self._is_listed:
                return
            for folders, file in _walk(self.root, (), (os.path.realpath(self.root),)):
                self._by_stem.setdefault(os.path.splitext(file)[0], []).append((folders, file))
                if folders:
                    self._by_folder.setdefault(folders[-1], []).append((folders, file))
            self._is_listed = True
            log.info("%s: %s videos", self.root, f"{sum(map(len, self._by_stem.values())):,}")

    def koala_name(self, youtube_id: str) -> str | None:
        """The file that the Koala collection keeps a YouTube video in, from `koala_meta/*.json` beside it."""
        with self._lock:
            if self._koala is None:
                self._koala = dict(_koala_names(self.root / "koala_meta"))
        return self._koala.get(youtube_id)


def _walk(folder: Path, above: tuple[str, ...], inside: tuple[str, ...]) -> Iterator[_Found]:
    """The videos below a folder; `inside` are the real places of the folders that led here, its own the last."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # not there, or not ours to read
        return
    for entry in entries:
        if _is_folder(entry):
            place = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(inside[-1], entry.name)
            if not entry.name.startswith(".") and place not in inside:  # no circles of links
                yield from _walk(folder / entry.name, (*above, entry.name), (*inside, place))
        elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
            yield above, entry.name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where we may not look
        return False


def _fits(folders: Sequence[str], pattern: Sequence[str]) -> bool:
    """Case makes no difference to the folders of a layout: an id has been compared already."""
    if pattern[:1] == ["**"]:
        pattern = pattern[1:]
        folders = folders[len(folders) - len(pattern) :] if len(pattern) <= len(folders) else ()
    return len(folders) == len(pattern) and all(
        part in ("*", folder) or part.lower() == folder.lower() for folder, part in zip(folders, pattern, strict=True)
    )


def _koala_names(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            log.warning("%s does not parse, so the videos that it names will be missing (%s)", path, error)
            continue
        entries = {path.stem: content} if isinstance(content, dict) and "url" in content else content
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            url = entry.get("url") if isinstance(entry, dict) else None
            if isinstance(url, str) and (match := _YOUTUBE_ID.search(url)):
                yield match[1], name
