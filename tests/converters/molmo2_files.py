"""Reading a written sample of the Molmo2 sets as the published pipeline would find it, for the tests."""

import hashlib
from functools import cache
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageOps

from converters.sample import SampleSet

TEXTS = "list<string>"
QUESTION = {"Question": "string", "Answer": "string", "NegativeAnswers": TEXTS, "Category": "string"}

# Molmo2 datasets §1A.1, §1B.1, §1C.1
HUB_COLUMNS = {
    "molmo2-cap": {
        "video_id": "string",
        "video_start": "double",
        "video_end": "double",
        "video_caption": "string",
        "merged_caption": "string",
        "video_frame_merged_caption": "string",
        "video_transcript": "string",
        "clip_captions": TEXTS,
        "frame_captions": TEXTS,
        "annotation_score": "int64",
    },
    "molmo2-videocapqa": {"video_id": "string", **QUESTION},
    "molmo2-videosubtitleqa": {
        "video_id": "string",
        **QUESTION,
        "AlignmentType": "string",
        "subtitle": "list<struct<start: double, end: double, text: string>>",
    },
    "molmo2-askmodelanything": {"video_id": "string", "question": "string", "answer": "string"},
    "molmo2-videopoint": {
        "video_id": "string",
        "question": "string",
        "label": "string",
        "count": "int64",
        "two_fps_timestamps": "list<double>",
        "points": "list<list<struct<x: double, y: double>>>",
        "raw_frames": "list<int64>",
        "raw_timestamps": "list<double>",
        "annotator_unsure": "bool",
        "category": "string",
        "video_duration": "double",
        "video_source": "string",
        "clip_start": "double",
        "clip_end": "double",
    },
    "molmo2-videotrack": {
        "id": "string",
        "video": "string",
        "clip": "string",
        "video_dataset": "string",
        "fps": "int64",
        "sampling_fps": "int64",
        "start_frame": "int64",
        "end_frame": "int64",
        "expression": "string",
        "width": "int64",
        "height": "int64",
        "mask_id": TEXTS,
        "frame_trajectories": "list<struct<frame: int64, time: double, points: list<struct<id: int64, "
        "point: list<double>, occluded: bool>>>>",
    },
    "molmo2-multiimageqa": {
        "image_urls": TEXTS,
        "image_sha256s": TEXTS,
        "qa_pairs": "struct<question: list<string>, answer: list<string>>",
    },
    "molmo2-synmultiimageqa": {
        "id": "string",
        "images": "list<struct<bytes: binary, path: string>>",
        "qa_pairs": "struct<question: list<string>, explanation: list<string>, answer: list<string>>",
        "metadata": "struct<num_images: int64, overall_description: string>",
        "code": TEXTS,
    },
    "molmo2-multiimagepoint": {
        "image_urls": TEXTS,
        "image_sha256s": TEXTS,
        "points": "list<list<struct<x: float, y: float>>>",
        "counts": "list<int64>",
        "labels": TEXTS,
        "collection_method": TEXTS,
    },
}


def read(written: SampleSet, split: str) -> list[dict]:
    path = split if "/" in split else f"data/{split}"
    return pq.read_table(written.folder / f"{path}-00000-of-00001.parquet").to_pylist()


@cache
def decode(path: Path) -> list[np.ndarray] | None:
    """All frames, upright; None if the file cannot be read to its end."""
    try:
        with av.open(str(path)) as file:
            frames = list(file.decode(video=0))
    except av.FFmpegError:
        return None
    return [np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90) for frame in frames]


def video_path(written: SampleSet, row: dict) -> Path | None:
    """Where the published pipeline would find the row's video."""
    if "clip" in row:
        folder = {
            "dancetrack": "DanceTrack/videos/train",
            "sportsmot": "SportsMOT/videos/train",
            "APTv2": "APTv2/videos",
        }
        patterns = [f"video_track/{folder[row['video_dataset']]}/{row['clip']}.mp4"]
    elif "two_fps_timestamps" in row:
        folder, _, name = row["video_id"].rpartition("/")
        by_source = {
            "youtube": f"youtube-cc/youtube-cc-*-2fps/{name}_2fps.mp4",
            "MammalNet": f"MammalNet/trimmed_video-2fps/{name}_2fps.mp4",
            "generated": f"generated_videos/{folder}-2fps/{name}_2fps.mp4",
        }
        patterns = [by_source[row["video_source"]]]
    else:
        name = row["video_id"]
        patterns = [f"youtube-cc/youtube-cc-*/{name}/*", f"youtube_temporal/{name}.*"]
    found = [path for pattern in patterns for path in written.video_dir.glob(pattern)]
    return found[0] if found else None


def picture(written: SampleSet, url: str) -> Image.Image | None:
    """The upright picture of a URL; None if there is none or it is no picture."""
    path = written.image_cache / hashlib.sha256(url.encode()).hexdigest()
    try:
        return ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    except OSError:
        return None
