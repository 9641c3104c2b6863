"""Compare this library with known answers: figures that the published pipeline computed for given files and texts.

    python tests/golden.py --answers DIR --media DIR

DIR of the answers may hold any of images.json (with image_crops.npz), text.json, points.json and videos_Nframes.json,
where N is the number of frames that a video is sampled to at most. The files that images.json and videos_Nframes.json
name, and tokenizers/Qwen3/tokenizer.json.gz, lie below DIR of the media. Prints per kind how many answers agree and
every one that does not; the exit status is 1 if any disagrees.

Times, token ids, pooling indices, decoded pixels and strings must agree exactly, loss weights within 1e-6. Resized
pixels may differ by one step in at most 2 values of 1000: the published resize itself depends on the number of its
threads. Of a video that the published pipeline cannot decode, it is only noted what this library makes of it.
"""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs from a checkout

import numpy as np

from grain_molmo.errors import MediaError
from grain_molmo.special_tokens import IM_PATCH
from grain_molmo.text import points as markup
from grain_molmo.text.assemble import TokenArrays, assemble
from grain_molmo.text.tokenizer import Tokenizer, load_tokenizer
from grain_molmo.text.weights import PRETRAINING, SFT
from grain_molmo.vision.crops import (
    frame_pooling,
    layout_tokens,
    pooling_indices,
    render_crops,
    render_frame,
    select_tiling,
)
from grain_molmo.vision.frames import FrameSampling, sample_times
from grain_molmo.vision.image import decode_image
from grain_molmo.vision.video import decode_frames, probe_video
from grain_molmo.visual_tokens import frame_tokens

SPECIAL_BASE = 151936
"""The id of the first special token in the answers about pictures."""
OFF_BY_ONE = 0.002
"""The share of resized values that may be off, by 1. So a sum of n values may be off by this times n."""

Case = Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """How one known answer compared; `problem` is empty where it agrees. A `note` is for people."""

    name: str
    problem: str
    note: str = ""


def check_images(answers: Path, media: Path) -> Iterator[Outcome]:
    """Each picture of images.json: its pixels, and for each number of crops its tokens, pooling indices and patches."""
    crops_path = answers / "image_crops.npz"
    crops = np.load(crops_path) if crops_path.exists() else {}
    for case in _cases(answers / "images.json"):
        patches = crops.get(case["file"])
        yield _outcome(case["file"], lambda case=case, patches=patches: _image_problems(case, patches, media))


def check_text(answers: Path, media: Path) -> Iterator[Outcome]:
    """Each conversation or message tree of text.json: its five token arrays."""
    tokenizer = load_tokenizer(media / "tokenizers" / "Qwen3" / "tokenizer.json.gz")
    for case in _cases(answers / "text.json"):
        yield _outcome(case["name"], lambda case=case: _text_problems(case, tokenizer))


def check_points(answers: Path, media: Path) -> Iterator[Outcome]:
    """Each answer string of points.json."""
    del media
    for number, case in enumerate(_cases(answers / "points.json")):
        yield _outcome(f"{number} ({case['kind']})", lambda case=case: _point_problems(case))


def check_videos(max_frames: int, answers: Path, media: Path) -> Iterator[Outcome]:
    """Each video of videos_Nframes.json: when which frames are shown, their pixels, tokens, pooling and patches."""
    tokenizer = load_tokenizer(media / "tokenizers" / "Qwen3" / "tokenizer.json.gz", special_base=SPECIAL_BASE)
    sampling = FrameSampling(max_frames=max_frames, max_fps=2.0)
    for case in _cases(answers / f"videos_{max_frames}frames.json"):
        data = _read(media / case["file"])
        if data is not None and "error" in case:
            yield Outcome(case["file"], "", f"{_fate(data, sampling)}; published: {case['error']}")
        elif data is None:
            yield Outcome(case["file"], "is missing")
        else:
            yield _outcome(case["file"], lambda case=case, data=data: _video_problems(case, data, sampling, tokenizer))


CHECKS: Mapping[str, Callable[[Path, Path], Iterator[Outcome]]] = {
    "images": check_images,
    "text": check_text,
    "points": check_points,
}
"""Kind of answer, which is the name of its file, to what compares it."""


def check_of(kind: str) -> Callable[[Path, Path], Iterator[Outcome]] | None:
    """What compares answers of a kind; None if this program does not know it."""
    if found := re.fullmatch(r"videos_(\d+)frames", kind):
        return partial(check_videos, int(found[1]))
    return CHECKS.get(kind)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0 if everything that was compared agrees."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=Path, required=True, help="folder of the known answers")
    parser.add_argument("--media", type=Path, required=True, help="folder that the files named in them lie in")
    args = parser.parse_args(argv)
    kinds = sorted(path.stem for path in args.answers.glob("*.json"))
    if not any(map(check_of, kinds)):
        known = ", ".join(f"{kind}.json" for kind in [*CHECKS, "videos_Nframes"])
        parser.error(f"{args.answers} holds none of {known}")
    all_agree = True
    for kind in kinds:
        check = check_of(kind)
        if check is None:
            print(f"{kind}: not checked, this program does not know the kind yet")
            continue
        all_agree &= _print_outcomes(kind, list(check(args.answers, args.media)))
    return 0 if all_agree else 1


def _print_outcomes(kind: str, outcomes: Sequence[Outcome]) -> bool:
    """Prints what came out; whether all of it agrees."""
    noted = [outcome for outcome in outcomes if outcome.note]
    wrong = [outcome for outcome in outcomes if outcome.problem]
    compared = len(outcomes) - len(noted)
    print(f"{kind}: {compared - len(wrong)} of {compared} agree")
    for outcome in wrong:
        print(f"  {outcome.name}: {outcome.problem}")
    for outcome in noted:
        print(f"  (note) {outcome.name}: {outcome.note}")
    return not wrong


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _cases(path: Path) -> list[Case]:
    return json.loads(path.read_text(encoding="utf-8"))


def _outcome(name: str, problems: Callable[[], Iterator[str]]) -> Outcome:
    try:
        return Outcome(name, "; ".join(problems()))
    except Exception as error:  # whatever is raised is this one answer's problem
        return Outcome(name, f"raises {type(error).__name__}: {error}")


def _image_problems(case: Case, patches_CPD: np.ndarray | None, media: Path) -> Iterator[str]:
    data = (media / case["file"]).read_bytes()
    if "error" in case:
        try:
            height, width, _ = decode_image(data).shape
        except MediaError:
            return
        yield f"loads, as {width}x{height}; the published pipeline raises {case['error']}"
        return
    image = decode_image(data)
    if list(image.shape[:2]) != case["hw"]:
        yield f"has the size {list(image.shape[:2])}, not {case['hw']}"
    if _sha256(image) != case["rgb_sha256"]:
        yield "other pixels"
    for key, expected in case.items():
        if key[0] == "k" and key[1:].isdigit():
            known = patches_CPD if key == "k8" else None
            for problem in _crop_problems(image, int(key[1:]), expected, known):
                yield f"at most {key[1:]} crops: {problem}"


def _crop_problems(image: np.ndarray, max_crops: int, expected: Case, known_CPD: np.ndarray | None) -> Iterator[str]:
    tiling = select_tiling(*image.shape[:2], max_crops)
    tokens, pooling = layout_tokens(tiling) + np.int32(SPECIAL_BASE), pooling_indices(tiling)
    figures = {
        "n_crops": tiling.n_crops,
        "n_tokens": len(tokens),
        "n_pooled": len(pooling),
        "tokens_sha256": _sha256(tokens),
        "pooling_sha256": _sha256(pooling),
    }
    for name, figure in figures.items():
        if figure != expected[name]:
            yield f"{name} is {figure}, not {expected[name]}"
    patches_CPD = np.empty((tiling.n_crops, 729, 588), np.uint8)
    render_crops(image, tiling, patches_CPD)
    if known_CPD is None:
        off = abs(int(patches_CPD.sum(dtype=np.int64)) - expected["images_sum"])
        if off > OFF_BY_ONE * patches_CPD.size:
            yield f"the sum of the patches is off by {off}, of {patches_CPD.size} values"
    elif known_CPD.shape != patches_CPD.shape:
        yield f"patches of shape {patches_CPD.shape}, not {known_CPD.shape}"
    else:
        difference = np.abs(patches_CPD.astype(np.int16) - known_CPD)
        share = np.count_nonzero(difference) / difference.size
        if difference.max() > 1 or share > OFF_BY_ONE:
            yield f"patches differ in {share:.3%} of the values, by {difference.max()} at most"


def _fate(data: bytes, sampling: FrameSampling) -> str:
    """What this library makes of a video that the published pipeline cannot decode."""
    try:
        info = probe_video(data)
        times_s = sample_times(info.duration_s, sampling)
        shown = [place for places, _ in decode_frames(data, times_s) for place in places]
        return f"decodes here, {len(shown)} frames of {info.width}x{info.height} {info.codec}, {info.duration_s:.3f} s"
    except MediaError as error:
        return f"{error.reason} here"


def _video_problems(case: Case, data: bytes, sampling: FrameSampling, tokenizer: Tokenizer) -> Iterator[str]:
    info = probe_video(data)
    facts = {
        "codec": info.codec,
        "duration_s": info.duration_s,
        "num_frames": info.num_frames,
        "average_fps": info.fps,
        "frame_hw": [info.height, info.width],
    }
    for name, fact in facts.items():
        if fact != case[name]:
            yield f"{name} is {fact}, not {case[name]}"
    times_s = sample_times(info.duration_s, sampling)
    if times_s.tolist() != case["timestamps"]:
        yield f"sampled at {times_s.tolist()}, not {case['timestamps']}"
        return
    tokens = frame_tokens(times_s, tokenizer)
    pooling = np.concatenate([frame_pooling() + np.int32(729 * frame) for frame in range(len(times_s))])
    for name, array in (("tokens_sha256", tokens), ("pooling_sha256", pooling)):
        if _sha256(array) != case[name]:
            yield f"{name} of {array.shape} differs"
    yield from _frame_problems(case, data, times_s)


def _frame_problems(case: Case, data: bytes, times_s: np.ndarray) -> Iterator[str]:
    patches_FPD = np.empty((len(times_s), 729, 588), np.uint8)
    hashes = [""] * len(times_s)
    for places, frame_HW3 in decode_frames(data, times_s):
        for place in places:
            hashes[place] = _sha256(frame_HW3)[:16]
            render_frame(frame_HW3, patches_FPD[place])
    wrong = [
        place for place, (mine, known) in enumerate(zip(hashes, case["frame_sha256"], strict=True)) if mine != known
    ]
    if wrong:
        yield f"other pixels in frames {wrong} of {len(hashes)}"
    if list(patches_FPD.shape) != case["patches_shape"]:
        yield f"patches of shape {patches_FPD.shape}, not {case['patches_shape']}"
    off = abs(int(patches_FPD.sum(dtype=np.int64)) - case["patches_sum"])
    if off > OFF_BY_ONE * patches_FPD.size:
        yield f"the sum of the patches is off by {off}, of {patches_FPD.size} values"


def _text_problems(case: Case, tokenizer: Tokenizer) -> Iterator[str]:
    visual_tokens = np.full(case["n_visual_tokens"], tokenizer.special_id(IM_PATCH), np.int32)
    weighting = {"pretrain": PRETRAINING, "sft": SFT}[case["stage"]].overridden(case["weight"])
    arrays = assemble(
        case["messages"], visual_tokens, tokenizer, weighting=weighting, max_length=case["max_sequence_length"]
    )
    for name in ("input_tokens", "target_tokens", "position_ids", "subsegment_ids"):
        ours, known = getattr(arrays, name), case.get(name)
        if (ours is None) != (known is None) or (ours is not None and ours.tolist() != known):
            yield f"{name} {_where(ours, known)}"
    yield from _weight_problems(arrays, case["loss_masks"])


def _weight_problems(arrays: TokenArrays, known: Sequence[float]) -> Iterator[str]:
    if len(arrays.loss_weights) != len(known):
        yield f"{len(arrays.loss_weights)} loss weights, not {len(known)}"
    elif (off := np.abs(arrays.loss_weights - np.asarray(known)).max(initial=0)) > 1e-6:
        yield f"loss weights are off by {off:.2g}"


def _where(ours: np.ndarray | None, known: Sequence[int] | None) -> str:
    """Where two rows of numbers part."""
    if ours is None or known is None:
        return f"{'missing' if ours is None else 'present'}, against the known answer"
    for place, (mine, theirs) in enumerate(zip(ours.tolist(), known, strict=False)):
        if mine != theirs:
            return f"at {place}: {mine}, not {theirs}"
    return f"of length {len(ours)}, not {len(known)}"


def _point_problems(case: Case) -> Iterator[str]:
    text = _point_string(case)
    if text != case["text"]:
        yield f"{text!r}, not {case['text']!r}"


def _point_string(case: Case) -> str:
    scale, label = case["scale"], case["label"]
    match case["kind"]:
        case "image":
            return markup.image_points(case["points"], scale, label, case["mode"])
        case "multi_image":
            return markup.multi_image_points(case["images"], case["points"], scale, label, case["mode"])
        case "video":
            return markup.video_points(case["timestamps"], case["points"], scale, label, case["mode"])
        case "track":
            return markup.tracks(case["frames"], scale, label)
    raise ValueError(f"unknown kind {case['kind']!r}")


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
