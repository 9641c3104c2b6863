"""Videos are found by id in the layouts of the published pipeline (Molmo2 datasets §1B.2), without decoding any."""

import json
import os
from pathlib import Path

import pytest

from converters.molmo2_videos import ANYWHERE
from converters.sets import SETS
from converters.spec import FromVideo, Place
from converters.videos import VideoFolder, default_video_dir
from grain_molmo.errors import RowError

YOUTUBE = "abcdefghij-"


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def find(root: Path, name: str, **row: str | None) -> str:
    place = Place("track", "train", None, VideoFolder(root))
    try:
        (source,) = SETS[name].media(row, place)
    except RowError as error:
        return error.reason
    assert isinstance(source, FromVideo)
    return str(source.path.relative_to(root))


# Each list: files of one id in the order in which they are preferred.
QA = [
    f"youtube-cc/youtube-cc-exist/{YOUTUBE}/any.mkv",
    f"youtube-cc/youtube-cc-kw/{YOUTUBE}/{YOUTUBE}.mp4",
    f"youtube-cc/youtube-cc-temporal/{YOUTUBE}/{YOUTUBE}.webm",
    f"{YOUTUBE}.MP4",
    f"{YOUTUBE}/a.mov",
    f"somewhere/else/{YOUTUBE}.mp4",
]
POINT = [
    f"youtube-cc/youtube-cc-exist-2fps/{YOUTUBE}_2fps.mp4",
    f"youtube-cc/youtube-cc-temporal-2fps/{YOUTUBE}_2fps.mp4",
    f"{YOUTUBE}_2fps.mp4",
    f"{YOUTUBE}.mp4",
    f"youtube-cc/youtube-cc-kw/{YOUTUBE}/{YOUTUBE}.mp4",
]
CAP = [
    f"youtube-cc/youtube-cc-temporal/{YOUTUBE}/{YOUTUBE}.mp4",
    f"youtube-cc/another/{YOUTUBE}/{YOUTUBE}.mp4",
    f"youtube_temporal/{YOUTUBE}.mp4",
    f"intern/{YOUTUBE}.mp4",
    f"kw_youtube/batch_1/{YOUTUBE}.mp4",
    f"LLaVA-Video-178K/activitynet/v_{YOUTUBE}.mp4",
    f"LLaVA-Video-178K/liwei/ytb_{YOUTUBE}.mp4",
    f"hdvila/{YOUTUBE}.mp4",
]


@pytest.mark.parametrize(
    ("name", "row", "files"),
    [
        ("molmo2_videocapqa", {}, QA),
        ("molmo2_videosubtitleqa", {}, QA),
        ("molmo2_askmodelanything", {}, QA),
        ("molmo2_videopoint", {"video_source": "youtube"}, POINT),
        ("molmo2_videopoint", {"video_source": "unheard of"}, POINT),
        ("molmo2_cap", {}, CAP),
    ],
)
def test_of_several_files_the_one_in_the_first_layout_is_taken(tmp_path: Path, name: str, row: dict, files: list[str]):
    touch(tmp_path, *files)
    for file in files:
        assert find(tmp_path, name, video_id=YOUTUBE, **row) == file
        (tmp_path / file).unlink()
    assert find(tmp_path, name, video_id=YOUTUBE, **row) == "missing_video"


@pytest.mark.parametrize(
    ("source", "video_id", "file"),
    [
        ("MammalNet", "bear_1", "MammalNet/trimmed_video-2fps/bear_1_2fps.mp4"),
        ("generated", "g1", "generated_videos/g1_2fps.mp4"),
        ("generated", "sora2/g1", "generated_videos/sora2-2fps/g1_2fps.mp4"),
        (None, "sora2/g1", "generated_videos/sora2-2fps/g1_2fps.mp4"),
    ],
)
def test_pointed_videos_lie_where_their_source_has_them(tmp_path: Path, source, video_id: str, file: str):
    touch(tmp_path, file, "generated_videos/other-2fps/g1_2fps.mp4")
    assert find(tmp_path, "molmo2_videopoint", video_id=video_id, video_source=source) == file


def test_a_clip_of_a_track_is_looked_for_under_its_own_source(tmp_path: Path):
    track = "molmo2_videotrack"
    touch(tmp_path, "video_track/DanceTrack/videos/train/0001.mp4", "video_track/BFT/videos/train/0001.mp4")
    assert find(tmp_path, track, clip="0001", video_dataset="bft") == "video_track/BFT/videos/train/0001.mp4"
    assert find(tmp_path, track, clip="0001", video_dataset="mose") == "missing_video"
    touch(tmp_path, "video_track/APTv2/videos/a/0001.mp4", "video_track/APTv2/videos/0002.mp4")
    assert find(tmp_path, track, clip="0002", video_dataset="APTv2") == "video_track/APTv2/videos/0002.mp4"
    assert find(tmp_path, track, clip="a/0001", video_dataset="APTv2") == "video_track/APTv2/videos/a/0001.mp4"
    touch(tmp_path, "0003.mp4")
    assert find(tmp_path, track, clip="0003", video="source", video_dataset="mose") == "0003.mp4"


def test_videos_of_koala_are_found_by_the_url_of_their_metadata(tmp_path: Path):
    touch(tmp_path, "koala/batch_1/k7.mp4")
    (tmp_path / "koala_meta").mkdir()
    (tmp_path / "koala_meta/k7.json").write_text(json.dumps({"url": f"https://www.youtube.com/watch?v={YOUTUBE}"}))
    (tmp_path / "koala_meta/broken.json").write_text("{")
    assert find(tmp_path, "molmo2_cap", video_id=YOUTUBE) == "koala/batch_1/k7.mp4"
    assert find(tmp_path, "molmo2_cap", video_id="another") == "missing_video"


def test_an_id_is_a_name_and_never_a_path_or_a_pattern(tmp_path: Path):
    touch(tmp_path, "videos/a.mp4", "videos/b/c.mp4", "secret.mp4")
    folder = VideoFolder(tmp_path / "videos")
    for name in ("../secret", "*", "**", "b/*", "*/c", "**/c", "a.mp4", "", "/", "{dir}", str(tmp_path / "secret")):
        assert folder.find(name, ANYWHERE) is None
    assert folder.find("a", ANYWHERE) == tmp_path / "videos/a.mp4"


def test_files_of_other_kinds_and_hidden_folders_are_no_videos(tmp_path: Path):
    touch(tmp_path, "a.json", "a.mp4.part", ".cache/a.mp4", "a/a.jpg")
    assert VideoFolder(tmp_path).find("a", ANYWHERE) is None
    assert VideoFolder(tmp_path / "nowhere").find("a", ANYWHERE) is None


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path):
    touch(tmp_path, "disk/a.mp4")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/linked").symlink_to(tmp_path / "disk")
    (tmp_path / "videos/round").symlink_to(tmp_path / "videos")
    assert VideoFolder(tmp_path / "videos").find("a", ANYWHERE) == tmp_path / "videos/linked/a.mp4"


def test_links_to_each_other_to_themselves_and_to_nowhere_do_no_harm(tmp_path: Path):
    touch(tmp_path, "a/a.mp4", "b/b.mp4")
    (tmp_path / "a/other").symlink_to(tmp_path / "b")
    (tmp_path / "b/other").symlink_to(tmp_path / "a")
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    folder = VideoFolder(tmp_path)
    assert [folder.find(name, ANYWHERE) for name in "ab"] == [tmp_path / "a/a.mp4", tmp_path / "b/b.mp4"]


def test_the_folder_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    touch(tmp_path, *(f"{i}/{i}.mp4" for i in range(5)))
    listed = []
    scandir = os.scandir
    monkeypatch.setattr("converters.videos.os.scandir", lambda path: (listed.append(path), scandir(path))[1])
    folder = VideoFolder(tmp_path)
    assert all(folder.find(str(i % 5), ANYWHERE) for i in range(50))
    assert len(listed) == 6


def test_a_path_in_a_row_is_beside_local_rows_or_in_the_folder_of_videos(tmp_path: Path):
    touch(tmp_path, "rows/a.mp4", "videos/b.mp4", "videos/c.mp4", "secret.mp4")
    videos = VideoFolder(tmp_path / "videos")
    local, hub = Place(None, "train", tmp_path / "rows", videos), Place(None, "train", None, videos)
    media = SETS["molmo2_videocapqa"].media
    assert media({"video_path": "a.mp4"}, local) == (FromVideo(tmp_path / "rows/a.mp4"),)
    assert media({"video_path": "b.mp4", "video_id": "x"}, local) == (FromVideo(tmp_path / "videos/b.mp4"),)
    assert media({"video_path": str(tmp_path / "secret.mp4")}, local) == (FromVideo(tmp_path / "secret.mp4"),)
    assert media({"video_path": "c.mp4"}, hub) == (FromVideo(tmp_path / "videos/c.mp4"),)
    for path in (str(tmp_path / "secret.mp4"), "../secret.mp4", "a.mp4", "\0", "x" * 5000):
        with pytest.raises(RowError, match="missing_video"):
            media({"video_path": path}, hub)


def test_the_published_pipeline_s_variable_says_where_videos_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MOLMO_DATA_DIR", "/somewhere")
    assert default_video_dir() == Path("/somewhere/video_datasets")
    monkeypatch.delenv("MOLMO_DATA_DIR")
    assert default_video_dir() is None
