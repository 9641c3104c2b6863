"""The sample's video files, in the folders where the published pipeline looks for them (Molmo2 datasets §1B.2).

OUT/video_datasets/youtube-cc/youtube-cc-exist/<id>/<id>.mp4             (also -kw, -temporal; .mkv, .webm)
OUT/video_datasets/youtube-cc/youtube-cc-exist-2fps/<id>_2fps.mp4        re-encoded for pointing
OUT/video_datasets/youtube_temporal/<id>.mp4                             some of the captioned ones
OUT/video_datasets/MammalNet/trimmed_video-2fps/<id>_2fps.mp4
OUT/video_datasets/generated_videos/<folder>-2fps/<name>_2fps.mp4        id "<folder>/<name>"
OUT/video_datasets/video_track/DanceTrack/videos/train/<clip>.mp4        APTv2 without "train"
"""

import math
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from converters.sample.clips import ClipFormat, can_encode, encode_clip
from converters.sample.films import Film, draw, make_film
from grain_molmo.errors import ConfigError
from grain_molmo.rng import stable_hash

YOUTUBE_FOLDERS = ("youtube-cc-exist", "youtube-cc-kw", "youtube-cc-temporal")
POINT_FPS = 2
HEADER_BYTES = 200
# Source of tracks, as rows name it, and the folder of its clips.
TRACK_FOLDERS = {
    "dancetrack": "video_track/DanceTrack/videos/train",
    "sportsmot": "video_track/SportsMOT/videos/train",
    "APTv2": "video_track/APTv2/videos",
}
_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class VideoPool:
    """Draws and encodes each film once, when a row first needs it, and puts it where the layouts have it.

    The seed is part of the ids, so samples of several seeds can share a folder.
    """

    def __init__(self, seed: int, folder: Path):
        self.seed = seed
        self.folder = folder
        self._films: dict[tuple[str, int], Film] = {}
        self._written: set[Path] = set()

    def film(self, kind: str, index: int) -> Film:
        """Return film `index` of a kind (see `make_film`)."""
        if (kind, index) not in self._films:
            self._films[kind, index] = make_film(self.seed, kind, index)
        return self._films[kind, index]

    def youtube(self, kind: str, index: int) -> str:
        """Put a film where videos from YouTube lie and return its id."""
        video_id, folder = self.video_id(kind, index), YOUTUBE_FOLDERS[index % 3]
        film = self.film(kind, index)
        clip = encodable(film.clip)
        self._put(f"youtube-cc/{folder}/{video_id}/{video_id}.{clip.container}", film, clip)
        return video_id

    def captioned(self, kind: str, index: int) -> str:
        """Put a film where captioned videos lie, every fourth of them flat in a folder, and return its id."""
        if index % 4 != 3:
            return self.youtube(kind, index)
        video_id, film = self.video_id(kind, index), self.film(kind, index)
        clip = encodable(film.clip)
        self._put(f"youtube_temporal/{video_id}.{clip.container}", film, clip)
        return video_id

    def two_fps(self, kind: str, index: int, source: str) -> str:
        """Put a film, re-encoded to two frames a second, where a source of points has its videos; return its id."""
        video_id = self.video_id(kind, index)
        folders = {
            "youtube": f"youtube-cc/{YOUTUBE_FOLDERS[index % 3]}-2fps",
            "MammalNet": "MammalNet/trimmed_video-2fps",
        }
        folder = folders.get(source, "generated_videos/sora2-2fps")
        film = self.film(kind, index)
        self._put(f"{folder}/{video_id}_2fps.mp4", film, encodable(two_fps_clip(film.clip)))
        return f"sora2/{video_id}" if source == "generated" else video_id

    def track(self, index: int) -> tuple[str, str]:
        """Put a film where clips to track things in lie, and return the source's name and the clip's."""
        source = list(TRACK_FOLDERS)[index % len(TRACK_FOLDERS)]
        name, film = f"{source.lower()}_{self.video_id('tracks', index)}", self.film("tracks", index)
        self._put(f"{TRACK_FOLDERS[source]}/{name}.mp4", film, encodable(film.clip))
        return source, name

    def video_id(self, kind: str, index: int) -> str:
        """Eleven letters, as YouTube has them."""
        number = stable_hash("video", self.seed, kind, index)
        return "".join(_ID_LETTERS[number >> 5 * i & 63] for i in range(11))

    def break_copy(self, stem: str, broken_stem: str) -> None:
        """Store the beginning of a file under another name, where a video of that name would lie.

        Half of an MP4 has no table of frames; of the other containers, which begin with theirs, just the header stays.
        """
        for path in sorted(path for path in self._written if path.stem == stem):
            target = self.folder / str(path.relative_to(self.folder)).replace(stem, broken_stem)
            target.parent.mkdir(parents=True, exist_ok=True)
            data = path.read_bytes()
            target.write_bytes(data[: len(data) // 2 if path.suffix == ".mp4" else HEADER_BYTES])

    def _put(self, place: str, film: Film, clip: ClipFormat) -> None:
        path = self.folder / place
        if path not in self._written:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_clip(clip, partial(draw, film)))
            self._written.add(path)


def two_fps_clip(clip: ClipFormat) -> ClipFormat:
    """Return the format of a clip that was re-encoded to two frames a second: upright, begins at 0, no sound."""
    frames = math.ceil(clip.seconds * POINT_FPS - 1e-9)
    return ClipFormat(
        width=clip.width, height=clip.height, fps=Fraction(POINT_FPS), seconds=frames / POINT_FPS, codec="h264"
    )


def encodable(clip: ClipFormat) -> ClipFormat:
    """Return the format, with another codec where this machine's FFmpeg has not the wanted one.

    ConfigError if it has none of ours.
    """
    for codec in (clip.codec, "h264", "mpeg4"):
        if can_encode(codec):
            fits = clip.container != "webm" or codec == clip.codec
            return replace(clip, codec=codec, container=clip.container if fits else "mp4")
    raise ConfigError("this machine's FFmpeg has neither H.264 nor MPEG-4 to encode; videos cannot be made")
