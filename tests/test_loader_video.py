"""The stages with video, from stores to batches: shapes, what rows hold, resume, broken files, the published recipe."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import grain_molmo as gm
from converters.to_arrayrecord import main as convert
from grain_molmo.encode import Encoder
from grain_molmo.errors import ConfigError, NotConvertedError
from grain_molmo.packing.mixture import Draw
from grain_molmo.render import render_rows
from grain_molmo.special_tokens import IM_PATCH
from grain_molmo.stages import STAGES
from grain_molmo.store import MediaStore
from grain_molmo.vision.crops import render_frame
from grain_molmo.vision.video import decode_frames

VIDEO_SETS = ("cap", "videocapqa", "videosubtitleqa", "askmodelanything", "videopoint", "videotrack")
NINE = [f"molmo2-{name}" for name in (*VIDEO_SETS, "multiimageqa", "synmultiimageqa", "multiimagepoint")]
VIDEO_STAGES = ("sft", "long_context")

pytestmark = pytest.mark.xdist_group("video_loader")  # they share the converted sample


@pytest.fixture(scope="session")
def sample_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("video_sample")
    arguments = ["--sample", "--rows", "16", "--data-dir", str(folder)]
    assert convert([*NINE, "pixmo-cap", "pixmo-points", "pixmo-count", *arguments]) == 0
    return folder


@pytest.fixture
def open_loader(sample_dir):
    loaders = []

    def make(stage, **options):
        small = {"data_dir": sample_dir, "tokenizer": "bytes", "batch_size": 1, "num_threads": 2}
        loaders.append(gm.make_loader(stage, **{**small, **options}))
        return loaders[-1]

    yield make
    for loader in loaders:
        loader.close()


def equal(batch, other):
    return batch.keys() == other.keys() and all(np.array_equal(batch[key], other[key]) for key in batch)


@pytest.mark.parametrize(("stage", "tokens", "crops"), [("sft", 16_384, 128), ("long_context", 36_864, 384)])
def test_batches_have_the_shapes_of_their_stage_and_are_full(open_loader, stage, tokens, crops):
    loader = open_loader(stage)
    batch = next(loader)
    assert {key: (array.shape, array.dtype.name) for key, array in batch.items()} == {
        **dict.fromkeys(("input_tokens", "target_tokens", "position_ids"), ((1, tokens), "int32")),
        **dict.fromkeys(("segment_ids", "subsegment_ids"), ((1, tokens), "int32")),
        "loss_weights": ((1, tokens), "float32"),
        "images": ((1, crops, 729, 588), "uint8"),
        "token_pooling": ((1, tokens, 9), "int32"),
    }
    next(loader)
    stats = loader.stats()
    assert max(stats["token_fill"], stats["crop_fill"]) > 0.9
    assert stats["skipped_examples"] == stats["skipped_media"] == {}
    assert stats["shortened_videos"] == 0
    assert stats["frames"]["original"] == sum(one["frames"] for one in stats["datasets"].values()) > 0


def test_every_visual_token_has_its_row_of_pooling_within_its_own_example(open_loader):
    loader = open_loader("sft", batch_size=2)
    special = gm.load_tokenizer("bytes").special_base
    kinds = set()
    for _ in range(3):
        batch = next(loader)
        for row, examples in enumerate(loader.batch_info.rows):
            assert (batch["token_pooling"][row, examples[-1].pooled[1] :] == -1).all()
            for example in examples:
                patches = (batch["input_tokens"][row, slice(*example.tokens)] == special + IM_PATCH).sum()
                pooling = batch["token_pooling"][row, slice(*example.pooled)]
                assert patches == len(pooling)
                assert (pooling[:, 0] >= 0).all()
                crops = pooling[pooling >= 0] // 729
                if len(crops):
                    assert (crops.min(), crops.max() + 1) == example.crops
                kinds.add("video" if example.frames else "pictures")
                if example.frames:
                    assert (pooling >= 0).all()
                    assert len(pooling) == 81 * example.frames
                else:
                    assert (pooling[:, 4:] == -1).all()
    assert kinds == {"video", "pictures"}


def test_the_frames_in_a_row_are_those_that_the_video_shows_at_the_times_in_its_text(open_loader, sample_dir):
    loader = open_loader("sft")
    tokenizer = gm.load_tokenizer("bytes")
    checked = 0
    for _ in range(3):
        batch = next(loader)
        for example in loader.batch_info.rows[0]:
            if not example.frames:
                continue
            encoded = encoder(STAGES["sft"], sample_dir)(Draw(example.dataset, example.epoch, example.index))
            (slot,) = encoded.slots
            ids = batch["input_tokens"][0, slice(*example.tokens)]
            text = tokenizer.decode(np.where(ids >= tokenizer.special_base, ord("|"), ids))
            said = [part for part in text.split("|") if part.strip().replace(".", "").isdigit()]
            assert said[: example.frames - 1] == [f" {time:.1f} " for time in slot.times_s[1:]]
            out = np.zeros((example.frames, 729, 588), np.uint8)
            for places, frame in decode_frames(slot.video.encoded(), slot.times_s, slot.clip_start_s):
                for place in places:
                    render_frame(frame, out[place])
            assert np.array_equal(batch["images"][0, slice(*example.crops)], out)
            checked += 1
    assert checked >= 5


def encoder(stage, data_dir):
    datasets = {name: gm.get_dataset(name, data_dir=data_dir) for name in stage.weights}
    return Encoder(datasets, stage, gm.load_tokenizer("bytes"), seed=0)


def test_planning_opens_no_media(sample_dir, monkeypatch):
    def refuse(store, sha256):
        raise AssertionError(f"media {sha256} were read")

    monkeypatch.setattr(MediaStore, "read", refuse)
    encode = encoder(STAGES["sft"], sample_dir)
    n_crops = {
        name: sum(encode(Draw(name, 0, index)).n_crops for index in range(len(dataset)))
        for name, dataset in encode.datasets.items()
    }
    assert min(n_crops.values()) > 0
    assert len(n_crops) == len(NINE)


@pytest.mark.parametrize("stage", VIDEO_STAGES)
def test_a_resumed_run_gives_the_very_batches(open_loader, stage):
    loader = open_loader(stage, seed=3)
    states, batches = [], []
    for _ in range(4):
        states.append(json.loads(json.dumps(loader.get_state())))
        batches.append(next(loader))
    resumed = open_loader(stage, seed=3, num_threads=1)
    for step in np.random.default_rng(0).permutation(4)[:3]:
        resumed.set_state(states[step])
        assert equal(next(resumed), batches[step])


def test_each_process_renders_its_rows_of_the_global_batch(open_loader):
    whole = next(open_loader("sft", batch_size=2))
    for index in range(2):
        part = next(open_loader("sft", batch_size=2, process_index=index, process_count=2))
        assert equal(part, {key: array[index : index + 1] for key, array in whole.items()})


def test_a_stage_is_cut_to_size_and_says_which_videos_are_shown_in_part(open_loader):
    loader = open_loader("sft", seq_len=1024, max_frames=16, batch_size=4)
    batch = next(loader)
    assert batch["images"].shape[1] == 128
    stats = loader.stats()
    shown = [example for row in loader.batch_info.rows for example in row if example.frames]
    short = [example for example in shown if example.frames < example.frames_wanted]
    assert stats["shortened_videos"] == len(short) > 0
    assert all(example.frames_wanted <= 16 for example in shown)
    assert next(open_loader("sft", max_frames=200))["images"].shape[1] == 200


def test_pictures_text_and_the_nine_sets_share_a_mixture(open_loader):
    gm.register_dataset("plain_talk", _PlainTalk)
    weights = {**STAGES["sft"].weights, "pixmo_cap": 0.3, "pixmo_points": 0.3, "plain_talk": 0.3}
    loader = open_loader(replace(STAGES["sft"], mixture=weights, batch_size=1), batch_size=None)
    for _ in range(8):
        batch = next(loader)
        assert (batch["loss_weights"].sum(axis=1) > 0).all()
    assert loader.stats()["datasets"].keys() == weights.keys()


class _PlainTalk(gm.Dataset):
    def __init__(self, split="train"):
        self.split = split

    def __len__(self):
        return 50

    def get(self, item, rng):
        return {"messages": [f"What is {item} and {item}?", str(item * 2)]}


def test_the_published_recipe_names_the_sets_it_lacks(open_loader, caplog):
    loader = open_loader("sft", recipe="molmo2")
    lacking = set(loader.missing_datasets)
    assert {"tulu4", "mevis_track", "chart_qa_weighted", "pixmo_ask_model_anything"} <= lacking
    present = {"molmo2_human_qa", "vixmo_syn_video_capqa_v2", "molmo2_video_track", "pixmo_multi_points", "pixmo_cap"}
    assert present <= loader.weights.keys()
    assert not lacking & loader.weights.keys()
    assert len(lacking) + len(loader.weights) == 118
    assert "not registered: " in caplog.text
    assert "not converted: " in caplog.text
    # groups keep their proportions, whatever of them is there
    share = {name: weight / sum(loader.weights.values()) for name, weight in loader.weights.items()}
    image_pointing = ("pixmo_multi_points", "pixmo_points_train", "pixmo_count_train", "pixmo_points_high_freq_train")
    tracking = [name for name in share if "track" in name]
    assert sum(share[name] for name in tracking) == pytest.approx(
        1.5 * sum(share.get(name, 0) for name in image_pointing), rel=1e-6
    )
    batch = next(loader)
    assert batch["images"].shape == (1, 128, 729, 588)


def test_a_recipe_without_any_of_its_sets_is_an_error(tmp_path):
    with pytest.raises(NotConvertedError, match="none of the datasets of stage 'sft' was converted"):
        gm.make_loader("sft", recipe="molmo2", data_dir=tmp_path, tokenizer="bytes")


def test_frames_that_are_no_number_are_refused(open_loader):
    with pytest.raises(ConfigError, match="max_frames is '8'"):
        open_loader("sft", max_frames="8")


def test_frames_of_a_stage_without_video_are_refused(open_loader):
    with pytest.raises(ConfigError, match="stage 'pretraining' has no video"):
        open_loader("pretraining", max_frames=8)


@pytest.mark.parametrize("frames", [[], ["--video-frames"]])
def test_all_real_videos_are_shown_and_the_broken_ones_counted(media, tmp_path, frames):
    files = sorted(path for path in (media / "videos").rglob("*") if path.suffix)
    (tmp_path / "rows").mkdir()
    rows = [{"video_path": str(path), "question": "Which file?", "answer": path.name} for path in files]
    (tmp_path / "rows" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = ["--source", str(tmp_path / "rows"), "--data-dir", str(tmp_path / "data")]
    assert convert(["molmo2-videocapqa", *arguments, *frames]) == 0
    rejects = (tmp_path / "data" / "molmo2_videocapqa" / "rejects-train.jsonl").read_text().splitlines()
    num_videos = len(gm.get_dataset("molmo2-videocapqa", data_dir=tmp_path / "data"))
    assert num_videos + len(rejects) == len(files)
    assert {json.loads(line)["reason"] for line in rejects} <= {
        *("empty", "not_a_video", "no_video_stream", "no_frames", "unreadable", "truncated"),
    }
    for stage in VIDEO_STAGES if frames else ("sft",):
        chosen = replace(STAGES[stage], mixture={"molmo2_videocapqa": 1}, rules={}, batch_size=1)
        with gm.make_loader(chosen, data_dir=tmp_path / "data", tokenizer="bytes") as loader:
            seen, blanked = set(), set()
            while len(seen) < num_videos:
                next(loader)
                seen |= {example.index for row in loader.batch_info.rows for example in row}
                blanked |= {example.index for row in loader.batch_info.rows for example in row if example.blanked}
            stats = loader.stats()
        assert stats["frames"].keys() == ({"prepared"} if frames else {"original"})
        assert len(blanked) <= 2  # damaged where no probe looks
        assert bool(stats["skipped_media"]) == bool(blanked)


def test_prepared_frames_look_like_the_original_and_are_used_in_both_stages(open_loader, tmp_path):
    arguments = ["--sample", "--rows", "8", "--data-dir", str(tmp_path)]
    assert convert(["molmo2-videopoint", "molmo2-videotrack", *arguments, "--video-frames"]) == 0
    for stage in VIDEO_STAGES:
        chosen = replace(STAGES[stage], mixture={"molmo2_videopoint": 1, "molmo2_videotrack": 1}, rules={})
        encoder_stage = replace(chosen, batch_size=1)
        with gm.make_loader(encoder_stage, data_dir=tmp_path, tokenizer="bytes") as loader:
            batch = next(loader)
            assert loader.stats()["frames"].keys() == {"prepared"}
            examples = loader.batch_info.rows[0]
            encode = encoder(encoder_stage, tmp_path)
            encoded = [encode(Draw(one.dataset, one.epoch, one.index)) for one in examples]
        originals = [
            replace(one, slots=tuple(replace(slot, video=_Original(slot.video)) for slot in one.slots))
            for one in encoded
        ]
        with ThreadPoolExecutor(1) as pool:
            batch_of_originals, infos = render_rows([originals], encoder_stage, pool)
        assert {info.frames_from for info in infos[0]} == {"original"}
        used = examples[-1].crops[1]
        error = batch["images"][0, :used].astype(np.float64) - batch_of_originals["images"][0, :used]
        psnr_F = 10 * np.log10(255**2 / np.maximum((error**2).mean(axis=(1, 2)), 1e-9))
        assert psnr_F.min() >= 40
        for key in batch.keys() - {"images"}:
            assert np.array_equal(batch[key], batch_of_originals[key])


class _Original:
    """A stored video without its prepared frames."""

    def __init__(self, video):
        self._video = video

    def __getattr__(self, name):
        return getattr(self._video, name)

    def render(self, times_s, out_FPD, clip_start_s=0.0):
        for places, frame in decode_frames(self._video.encoded(), times_s, clip_start_s):
            for place in places:
                render_frame(frame, out_FPD[place])
        return "original"
