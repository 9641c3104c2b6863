import functools
import itertools
import json
import shutil
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import jax
import numpy as np
import pytest

import grain_molmo as gm
from converters.to_arrayrecord import main as convert
from grain_molmo.datasets.base import Dataset
from grain_molmo.errors import ConfigError, FaultBudgetError, StoreError
from grain_molmo.loader_state import pack_state, unpack_state
from grain_molmo.stages import STAGES, group_weights
from grain_molmo.store import MediaRef, Record, SplitWriter, content_key
from grain_molmo.vision.crops import render_crops, select_tiling, unpatchify
from grain_molmo.vision.image import decode_image

pytestmark = pytest.mark.xdist_group("loader")  # they share the converted sample


def equal(batch, other):
    return batch.keys() == other.keys() and all(np.array_equal(batch[key], other[key]) for key in batch)


def branch_texts(loader, batch, row, example):
    """The decoded text of each branch of an example, without its visual tokens."""
    tokens = slice(*example.tokens)
    ids, subsegments = batch["input_tokens"][row, tokens], batch["subsegment_ids"][row, tokens]
    assert (batch["segment_ids"][row, tokens] == example.segment).all()
    tokenizer = gm.load_tokenizer("bytes")
    ids = np.where(ids >= tokenizer.special_base, tokenizer.bos_id, ids)
    return [tokenizer.decode(ids[subsegments == branch].tolist()) for branch in np.unique(subsegments)]


def pictures(batch, row, example):
    return unpatchify(batch["images"][row, slice(*example.crops)])


def rendered(data, n_crops):
    image_HW3 = decode_image(data)
    tiling = select_tiling(*image_HW3.shape[:2], 8)
    out = np.zeros((tiling.n_crops, 729, 588), np.uint8)
    render_crops(image_HW3, tiling, out)
    assert n_crops == tiling.n_crops
    return unpatchify(out)


def test_batches_have_the_documented_shapes_and_dtypes(open_loader):
    batch = next(open_loader())
    found = {key: (array.shape, array.dtype.name) for key, array in batch.items()}
    assert found == {
        "input_tokens": ((2, 6144), "int32"),
        "target_tokens": ((2, 6144), "int32"),
        "loss_weights": ((2, 6144), "float32"),
        "position_ids": ((2, 6144), "int32"),
        "segment_ids": ((2, 6144), "int32"),
        "subsegment_ids": ((2, 6144), "int32"),
        "images": ((2, 24, 729, 588), "uint8"),
        "token_pooling": ((2, 24 * 196, 4), "int32"),
    }
    assert STAGES["pretraining"].pooled_per_row == 4096  # P never passes T


def test_rows_hold_whole_examples_side_by_side(open_loader):
    loader = open_loader()
    for batch in itertools.islice(loader, 5):
        for row, examples in enumerate(loader.batch_info.rows):
            segments = batch["segment_ids"][row]
            for before, after in itertools.pairwise(examples):
                assert before.tokens[1] == after.tokens[0]
                assert before.crops[1] == after.crops[0]
            end = examples[-1].tokens[1]
            assert list(np.unique(segments[:end])) == list(range(1, len(examples) + 1))
            for key in ("segment_ids", "input_tokens", "target_tokens", "loss_weights", "position_ids"):
                assert not batch[key][row, end:].any()
            assert (batch["token_pooling"][row, examples[-1].pooled[1] :] == -1).all()
            assert not batch["images"][row, examples[-1].crops[1] :].any()


def test_each_image_token_has_its_pooling_row_within_its_own_example(open_loader):
    loader = open_loader()
    patch = gm.load_tokenizer("bytes").special_id(2)
    for batch in itertools.islice(loader, 3):
        for row, examples in enumerate(loader.batch_info.rows):
            tokens, pooling = batch["input_tokens"][row], batch["token_pooling"][row]
            assert (tokens == patch).sum() == (pooling >= 0).any(axis=1).sum()
            for example in examples:
                assert (tokens[slice(*example.tokens)] == patch).sum() == example.pooled[1] - example.pooled[0]
                crops = pooling[slice(*example.pooled)] // 729
                used = crops[pooling[slice(*example.pooled)] >= 0]
                assert used.min() == example.crops[0]
                assert used.max() == example.crops[1] - 1


def test_packed_rows_decode_back_to_the_text_and_pictures_of_their_examples(open_loader, sample_dir):
    loader = open_loader()
    datasets = {name: gm.get_dataset(name, data_dir=sample_dir) for name in loader.weights}
    seen = set()
    for batch in itertools.islice(loader, 12):
        for row, examples in enumerate(loader.batch_info.rows):
            for example in examples:
                source = datasets[example.dataset][example.index]
                assert source["metadata"]["id"] == example.id
                texts = branch_texts(loader, batch, row, example)
                for learned in known_texts(source):
                    assert any(learned in text for text in texts), (example.dataset, learned)
                crops = pictures(batch, row, example)
                assert np.array_equal(crops, rendered(source["image"].encoded(), len(crops)))
                seen.add(example.dataset)
    assert seen == set(datasets)


def known_texts(source):
    """Strings that must be found in the tokens, whatever was drawn."""
    if source.get("caption"):
        return [source["caption"]]
    if "answers" in source:
        return source["answers"]
    if "object_names" in source:
        return [f">{message['label'].lower()}</points>" for message in source["message_list"] if len(message["points"])]
    return [source["object_name"].lower()] if "object_name" in source else [source["answer"]]


def test_every_real_picture_is_found_in_a_row_and_the_broken_ones_are_counted(media, tmp_path):
    files = sorted(path for path in (media / "images").rglob("*") if path.is_file())
    cache, rows = tmp_path / "cache", []
    cache.mkdir()
    for number, path in enumerate(files):
        url = f"https://pictures.invalid/{number}/{path.name}"
        shutil.copy(path, cache / content_key(url.encode()))
        rows.append({"image_url": url, "caption": f"File number {number} is {path.name}.", "transcripts": ["well"]})
    source = tmp_path / "train.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data_dir = tmp_path / "data"
    arguments = ["--source", str(source), "--image-cache", str(cache), "--data-dir", str(data_dir)]
    assert convert(["pixmo-cap", *arguments, "--validation-fraction", "0"]) == 0

    rejects = [json.loads(line) for line in (data_dir / "pixmo_cap/rejects-train.jsonl").read_text().splitlines()]
    dataset = gm.PixMoCap(data_dir=data_dir)
    assert len(dataset) + len(rejects) == len(files)
    stage = gm.Stage(mixture={"pixmo_cap": 1}, batch_size=2, waiting=4)
    loader = gm.make_loader(stage, data_dir=data_dir, tokenizer="bytes", num_threads=2)
    found = {}
    while len(found) < len(dataset):
        batch = next(loader)
        for row, examples in enumerate(loader.batch_info.rows):
            for example in examples:
                caption = dataset[example.index]["caption"]
                assert any(caption in text for text in branch_texts(loader, batch, row, example))
                crops = pictures(batch, row, example)
                if not example.blanked:
                    path = files[int(caption.split()[2])]
                    assert np.array_equal(crops, rendered(path.read_bytes(), len(crops)))
                found[example.index] = example.blanked
        assert loader.batch_info.step < 500
    loader.close()
    # every file that the published pipeline cannot load is left out, none that it loads
    unreadable = {"monkey12.jpg", "65536-uint32-limit.png", "corrupt-header.jpg", "broken.png", "truncated.jpg"}
    blanked = {dataset[index]["caption"].split()[-1].removesuffix(".") for index, why in found.items() if why}
    assert {reject["url"].rsplit("/", 1)[1] for reject in rejects} | blanked == unreadable
    assert sum(loader.stats()["skipped_media"].values()) >= len(blanked)


def test_resume_at_twenty_random_steps_gives_bit_identical_batches(open_loader):
    rng = np.random.RandomState(0)
    straight = open_loader()
    batches, states = [], [straight.get_state()]
    for batch in itertools.islice(straight, 25):
        batches.append(batch)
        states.append(json.loads(json.dumps(straight.get_state())))
    resumed = open_loader(num_threads=3)
    for step in rng.permutation(24)[:20]:
        resumed.set_state(states[step])
        assert equal(next(resumed), batches[step])
        assert resumed.batch_info.step == step
        assert resumed.get_state() == states[step + 1]


def test_the_number_of_threads_changes_nothing(open_loader):
    one, four = open_loader(num_threads=1), open_loader(num_threads=4)
    assert all(equal(next(one), next(four)) for _ in range(6))


def test_what_a_consumer_keeps_of_a_batch_stays_as_it_was(open_loader):
    mesh = jax.make_mesh((1,), ("data",))
    kept = [[batch["images"] for batch in itertools.islice(open_loader(mesh=m), 6)] for m in (None, mesh)]
    fresh = [next(loader)["images"].copy() for loader in [open_loader()] for _ in range(6)]
    for of_numpy, of_jax, expected in zip(*kept, fresh, strict=True):
        assert np.array_equal(of_numpy, expected)
        assert np.array_equal(np.asarray(of_jax), expected)


def test_another_seed_gives_other_batches(open_loader):
    assert not equal(next(open_loader(seed=0)), next(open_loader(seed=1)))


def test_each_process_renders_its_slice_of_the_same_global_batch(open_loader):
    whole = open_loader(batch_size=4)
    parts = [open_loader(batch_size=4, process_index=i, process_count=2) for i in range(2)]
    for batch in itertools.islice(whole, 3):
        halves = [next(part) for part in parts]
        assert equal(batch, {key: np.concatenate([half[key] for half in halves]) for key in batch})
        assert parts[0].get_state() == parts[1].get_state() == whole.get_state()


def test_a_batch_that_does_not_divide_among_processes_is_refused(open_loader):
    with pytest.raises(ConfigError, match="does not divide among 3"):
        open_loader(batch_size=4, process_index=0, process_count=3)


def test_a_mesh_makes_global_arrays_sharded_over_its_data_axis(open_loader):
    mesh = jax.make_mesh((1,), ("data",))
    sharded, plain = next(open_loader(mesh=mesh)), next(open_loader())
    assert all(isinstance(array, jax.Array) for array in sharded.values())
    assert sharded["images"].sharding.spec == jax.sharding.PartitionSpec("data")
    assert equal({key: np.asarray(array) for key, array in sharded.items()}, plain)


def test_the_state_is_small_json(open_loader):
    loader = open_loader()
    for _ in range(3):
        next(loader)
    assert json.loads(json.dumps(loader.get_state())) == loader.get_state()
    assert len(json.dumps(loader.get_state())) < 2500


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"seed": 5}, "seed differ;"),
        ({"seq_len": 5120}, r"stage differ \(seq_len\);"),
        ({"batch_size": 4}, r"stage differ \(batch_size\);"),
    ],
)
def test_a_state_of_another_run_is_refused_by_the_part_and_the_field_that_differ(open_loader, change, part):
    with pytest.raises(ConfigError, match=f"another loader: {part}"):
        open_loader(**change).set_state(open_loader().get_state())


def test_a_state_of_other_data_is_refused(open_loader, tmp_path):
    stage = gm.Stage(mixture={"pixmo_cap": 1}, batch_size=1)
    convert(["pixmo-cap", "--sample", "--rows", "24", "--seed", "9", "--data-dir", str(tmp_path)])
    state = open_loader(stage).get_state()
    with pytest.raises(ConfigError, match=r"data differ \(pixmo_cap\)"):
        open_loader(stage, data_dir=tmp_path).set_state(state)


def test_a_state_that_tells_no_details_is_compared_by_its_parts(open_loader):
    loader = open_loader()
    _, plan = unpack_state(loader.get_state())
    parts = {part: value for part, value in loader.get_state()["fingerprint"].items() if part != "details"}
    loader.set_state(pack_state(parts, plan))
    with pytest.raises(ConfigError, match="another loader: seed differ;"):
        loader.set_state(pack_state({**parts, "seed": "5"}, plan))


def test_the_mixture_is_seen_in_its_shares(open_loader):
    loader = open_loader(batch_size=8)
    for _ in range(12):
        next(loader)
    stats = loader.stats()
    shares = {name: counts["examples"] / stats["examples"] for name, counts in stats["datasets"].items()}
    expected = {"pixmo_cap": 0.6, "pixmo_points": 0.25, "pixmo_count": 0.05, "pixmo_docs": 0.05, "pixmo_cap_qa": 0.05}
    assert loader.weights == pytest.approx(expected)
    assert shares == pytest.approx(expected, abs=0.05)
    assert stats["rows"] == 96
    assert stats["token_fill"] > 0.85


def test_the_published_recipe_names_what_it_lacks_and_keeps_proportions(open_loader, sample_dir, caplog):
    loader = open_loader(recipe="molmo2", batch_size=1, seq_len=None)
    assert (loader.stage.seq_len, loader.stage.crops_per_row) == (2536, 16)
    assert loader.missing_datasets == ["cosyn_point", "tulu4_max_2304"]
    assert "cosyn_point, tulu4_max_2304" in caplog.text
    assert loader.weights["pixmo_cap_with_transcripts"] == pytest.approx(0.6 / 0.9)
    sizes = {name: len(gm.get_dataset(name, data_dir=sample_dir)) for name in loader.weights}
    pointing = {name: weight for name, weight in loader.weights.items() if name != "pixmo_cap_with_transcripts"}
    assert pointing["pixmo_points_train"] / pointing["pixmo_count_train"] == pytest.approx(
        (sizes["pixmo_points_train"] / sizes["pixmo_count_train"]) ** 0.5
    )
    assert sum(pointing.values()) == pytest.approx(0.3 / 0.9)


def test_group_weights_follow_the_square_root_rule():
    groups = [gm.Group(name="a", rate=0.6, datasets=("x",)), gm.Group(name="b", rate=0.3, datasets=("y", "z", "gone"))]
    assert group_weights(groups, {"x": 5, "y": 100, "z": 400}) == pytest.approx({"x": 0.6, "y": 0.1, "z": 0.2})


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("pretrain", "unknown stage 'pretrain'; known: pretraining"),
        ({"mixture": {"pixmo_nothing": 1}}, "unknown dataset 'pixmo_nothing'"),
        ({"mixture": {"pixmo_cap": -1}}, "'pixmo_cap' is -1"),
        ({"mixture": {"pixmo_cap": 0, "pixmo_docs": 0}}, "no dataset has a positive weight"),
        ({"mixture": {"pixmo_cap": float("nan")}}, "is nan"),
        ({"mixture": [{"name": "pixmo_cap"}]}, '"weight"'),
        ({"mixture": {"pixmo-cap": 1, "pixmo_cap": 1}}, "listed twice"),
        ({"mixture": {"pixmo_cap": "much"}}, "not a number"),
        ({"mixture": {}}, "mixture or groups"),
        ({"mixture": {"pixmo_cap": 1}, "seq_len": 0}, "seq_len is 0"),
        ({"mixture": {"pixmo_cap": 1}, "crops_per_row": 1}, "crops_per_row is 1"),
        ({"mixture": {"pixmo_cap": 1}, "style_mode": "odd"}, "style_mode='odd'"),
    ],
)
def test_a_stage_that_cannot_be_is_refused_in_words(open_loader, stage, message):
    with pytest.raises(ConfigError, match=message):
        open_loader(stage if isinstance(stage, str) else gm.Stage(**stage), seq_len=None)


def test_a_missing_tokenizer_or_data_folder_or_dataset_is_named(open_loader, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match="no/such/tokenizer"):
        open_loader(tokenizer="no/such/tokenizer.json")
    with pytest.raises(StoreError, match="grain-molmo convert pixmo-cap"):
        open_loader(data_dir=tmp_path)
    monkeypatch.delenv("GRAIN_MOLMO_DATA", raising=False)
    with pytest.raises(ConfigError, match="GRAIN_MOLMO_DATA"):
        open_loader(data_dir=None)
    with pytest.raises(ConfigError, match="recipe"):
        open_loader(recipe="molmo9")
    with pytest.raises(ConfigError, match="no video"):
        open_loader(max_frames=8)


def picture_store(folder, pictures):
    """A captioned store of (bytes, width, height), written without asking whether the bytes are pictures."""
    writer = SplitWriter(folder, "pixmo_cap", "train", num_shards=1)
    items = []
    for number, (data, width, height) in enumerate(pictures):
        ref = MediaRef(content_key(data), "image", width, height, len(data))
        annotation = {"caption": f"picture {number}", "transcripts": [], "url": ""}
        items.append((Record(str(number), annotation, (ref,)), {ref.sha256: data}))
    writer.write_shard(0, items)
    writer.finish(source={}, converter={}, rejects=[])


def test_a_picture_that_does_not_decode_leaves_a_blank_and_moves_nothing(sample_dir, tmp_path, caplog):
    good = gm.PixMoCap(data_dir=sample_dir)[0]["image"]
    data, (height, width, _) = good.encoded(), good.shape
    bad = [(b"not a picture at all", 500, 400), (data + b" ", width + 90, height)]
    picture_store(tmp_path / "good", [(data + bytes([n]), width, height) for n in range(6)])
    lies = [(data + bytes([n]), width, height) for n in range(4)] + bad
    picture_store(tmp_path / "bad", lies)
    stage = gm.Stage(mixture={"pixmo_cap": 1}, batch_size=1, waiting=2)
    loader = gm.make_loader(stage, data_dir=tmp_path / "bad", tokenizer="bytes", num_threads=2)
    blanked = {}
    for batch in itertools.islice(loader, 6):
        for example in loader.batch_info.rows[0]:
            if example.blanked:
                blanked[example.id] = example.blanked
                assert not batch["loss_weights"][0, slice(*example.tokens)].any()
                assert not batch["images"][0, slice(*example.crops)].any()
                assert batch["input_tokens"][0, slice(*example.tokens)].any()
            else:
                assert batch["loss_weights"][0, slice(*example.tokens)].any()
                assert batch["images"][0, slice(*example.crops)].any()
    loader.close()
    assert blanked == {"4": "not_an_image", "5": "other_size"}
    counted = loader.stats()["skipped_media"]
    assert set(counted) == {"not_an_image", "other_size"}
    assert caplog.text.count("media left blank") == 2  # once for each kind, then only counted


@pytest.mark.parametrize("lost", ["media", "pixmo_cap"])
def test_a_shard_that_is_missing_or_cut_off_is_found_when_the_loader_is_made(sample_dir, tmp_path, lost):
    shutil.copytree(sample_dir, tmp_path / "data")
    stage = gm.Stage(mixture={"pixmo_cap": 1}, batch_size=1)
    (shard,) = (tmp_path / "data" / lost).glob("pixmo_cap-train.array_record*")
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(StoreError, match=f"{shard.name}: shard has .* bytes where the manifest says"):
        gm.make_loader(stage, data_dir=tmp_path / "data", tokenizer="bytes")
    shard.unlink()
    with pytest.raises(StoreError, match=f"{shard.name}: shard is missing"):
        gm.make_loader(stage, data_dir=tmp_path / "data", tokenizer="bytes")


def test_a_shard_lost_on_the_way_blanks_pictures_but_stops_a_run_that_lost_annotations(sample_dir, tmp_path):
    stage = gm.Stage(mixture={"pixmo_cap": 1}, batch_size=1)
    loaders = {}
    for lost in ("media", "pixmo_cap"):
        folder = tmp_path / lost
        shutil.copytree(sample_dir, folder)
        loaders[lost] = gm.make_loader(stage, data_dir=folder, tokenizer="bytes")
        (shard,) = (folder / lost).glob("pixmo_cap-train.array_record*")
        shard.unlink()
    with loaders["media"] as loader:
        batch = next(loader)
        assert not batch["loss_weights"].any()
        assert loader.stats()["skipped_media"]["unreadable_record"] > 0
    with loaders["pixmo_cap"] as loader, pytest.raises(StoreError, match="shard is missing"):
        next(loader)


class Arrays(Dataset):
    """A dataset of one's own: plain arrays, some examples without a picture, some that cannot be used."""

    def __init__(self, split="train", data_dir="means something else"):
        assert data_dir == "means something else"

    def __len__(self):
        return 40

    def get(self, item, rng):
        example = {"messages": [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": f"n{item}."}]}
        if item % 4 == 1:
            shape = [(90, 120), (90, 120, 3), (90, 120, 4)][item % 3]
            example["image"] = rng.randint(0, 255, shape).astype(np.uint8)
        if item % 10 == 3:
            example["messages"][1]["content"] = " "
        if item % 10 == 7:
            example["image"] = [np.zeros((30, 40, 3), np.uint8)] * 2
        return {**example, "metadata": {"id": f"my-{item}"}}


def test_a_dataset_of_plain_arrays_is_packed_and_its_bad_examples_are_left_out(caplog):
    gm.register_dataset("my-arrays", Arrays)
    stage = gm.Stage(mixture=[{"name": "my_arrays", "weight": 1}], batch_size=1, seq_len=3072)
    loaders = [gm.make_loader(stage, tokenizer="bytes", num_threads=n) for n in (1, 2)]
    seen = {}
    for _ in range(6):
        batch, again = (next(loader) for loader in loaders)
        assert equal(batch, again)
        for example in loaders[0].batch_info.rows[0]:
            texts = branch_texts(loaders[0], batch, 0, example)
            assert f"n{example.index}." in texts[0]
            assert batch["images"][0, slice(*example.crops)].any() == (
                example.index % 4 == 1 and example.index % 10 != 7
            )
            seen[example.id] = example.crops[1] - example.crops[0]
    for loader in loaders:
        loader.close()
    assert seen["my-7"] == 4
    assert seen["my-0"] == 0
    assert "my-3" not in seen
    assert loaders[0].stats()["skipped_examples"]["empty_answer"] >= 4
    assert caplog.text.count("example left out") == 2  # each of the two loaders once


def test_several_pictures_are_numbered_and_share_the_row(open_loader):
    gm.register_dataset("my-pairs", Arrays)
    stage = gm.Stage(mixture={"my_pairs": 1}, batch_size=1, seq_len=3072)
    loader = open_loader(stage, seq_len=None, batch_size=None)
    tokenizer = gm.load_tokenizer("bytes")
    batch = next(loader)
    while not (pairs := [e for e in loader.batch_info.rows[0] if e.id in ("my-7", "my-17")]):
        batch = next(loader)
    text = tokenizer.decode(batch["input_tokens"][0, slice(*pairs[0].tokens)].tolist())
    first, second = text.index("Image 1<low_res_im_start>"), text.index("Image 2<low_res_im_start>")
    assert first < second < text.index("Say it.")
    pooling = batch["token_pooling"][0, slice(*pairs[0].pooled)]
    assert set(np.unique(pooling[pooling >= 0] // 729)) == set(range(*pairs[0].crops))


def test_a_stage_whose_every_example_is_unusable_says_so():
    class Bad(Arrays):
        def get(self, item, rng):
            return {"messages": ["question", ""]}

    gm.register_dataset("my-bad", Bad)
    loader = gm.make_loader(gm.Stage(mixture={"my_bad": 1}, batch_size=1), tokenizer="bytes")
    with pytest.raises(FaultBudgetError, match="1001 examples in a row"):
        next(loader)
    loader.close()


class Large(Dataset):
    """Pictures that fill every crop they are given."""

    def __len__(self):
        return 8

    def get(self, item, rng):
        return {"image": np.full((1080, 1920, 3), item, np.uint8), "messages": ["What?", "Gray."]}


def test_high_resolution_visits_come_in_their_share_and_fit_the_row():
    gm.register_dataset("large", lambda split: Large())
    rules = {"large": gm.DatasetRule(p_high_res=0.3)}
    stage = gm.Stage(mixture={"large": 1}, batch_size=10, rules=rules)
    loader = gm.make_loader(stage, tokenizer="bytes", num_threads=2)
    crops = []
    for _ in range(10):
        next(loader)
        crops += [example.crops[1] - example.crops[0] for row in loader.batch_info.rows for example in row]
    loader.close()
    assert set(crops) == {1 + 2 * 4, 1 + 3 * 6}  # 4 x 6 would leave no room for the global crop
    assert 0.2 < np.mean(np.array(crops) > 9) < 0.4


def test_weights_of_single_datasets_override_the_stage(open_loader):
    rules = {"pixmo_cap": gm.DatasetRule(loss=0.25)}
    stage = replace(STAGES["pretraining"], rules=rules)
    loader = open_loader(stage)
    batch = next(loader)
    for row, examples in enumerate(loader.batch_info.rows):
        for example in examples:
            weights = np.unique(batch["loss_weights"][row, slice(*example.tokens)])
            assert list(weights) == [0, 0.25 if example.dataset == "pixmo_cap" else 1]


@pytest.mark.parametrize("batch_size", [1, 32])  # at 32 threads are still decoding when the process ends
def test_a_process_that_used_a_loader_ends_by_itself(sample_dir, batch_size):
    program = (
        "import grain_molmo as gm\n"
        f"loader = gm.make_loader('pretraining', data_dir={str(sample_dir)!r}, tokenizer='bytes', "
        f"batch_size={batch_size}, seq_len=6144)\n"
        "print(sorted(next(iter(loader)))[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "images"


def test_a_loader_can_be_closed_twice_and_used_as_a_context(open_loader):
    with open_loader() as loader:
        next(loader)
    loader.close()
    state = loader.get_state()
    for use in (lambda: next(loader), lambda: loader.set_state(state), lambda: loader.batch_at(0)):
        with pytest.raises(ConfigError, match="the loader is closed: make another"):
            use()


def test_loaders_of_several_threads_do_not_disturb_each_other(open_loader):
    expected = [next(loader) for loader in [open_loader(seed=seed) for seed in range(3)]]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda seed: next(open_loader(seed=seed)), range(3)))
    assert all(map(equal, expected, found))
    assert functools.reduce(lambda count, batch: count + len(batch), found, 0) == 24


def test_a_forgotten_loader_frees_its_threads(sample_dir):
    loader = gm.make_loader(data_dir=sample_dir, tokenizer="bytes", batch_size=2, seq_len=6144, num_threads=2)
    next(loader)
    pool_threads = {thread for thread in threading.enumerate() if thread.name.startswith("grain_molmo-render")}
    prefetching = {thread for thread in threading.enumerate() if thread.name.startswith("grain-thread-prefetch")}
    forgotten = weakref.ref(loader)
    del loader
    assert forgotten() is None
    assert not any(thread.is_alive() for thread in pool_threads | prefetching)


def test_a_script_that_never_closes_its_loader_ends_quietly(sample_dir):
    script = f"""
import grain_molmo as gm
loader = gm.make_loader(data_dir={str(sample_dir)!r}, tokenizer="bytes", batch_size=4, seq_len=6144)
next(loader)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, "Exception" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize(("index", "count"), [(2, 2), (-1, 2), (0, 0)])
def test_a_process_that_cannot_be_is_refused(open_loader, index, count):
    with pytest.raises(ConfigError, match="no such process"):
        open_loader(process_index=index, process_count=count)


def test_a_numpy_seed_is_the_same_seed(open_loader):
    assert equal(next(open_loader(seed=np.int64(3))), next(open_loader(seed=3)))


@pytest.mark.parametrize("wrong", [{"seed": "x"}, {"seed": 1.5}, {"batch_size": 2.0}, {"seq_len": "4096"}])
def test_numbers_that_are_not_whole_are_refused(open_loader, wrong):
    with pytest.raises(ConfigError, match="must be a whole number"):
        open_loader(**wrong)


@pytest.mark.parametrize("state", [None, "x", {}, {"version": 1}, {"version": 1, "fingerprint": {}}])
def test_what_is_no_state_is_refused(open_loader, state):
    with pytest.raises(ConfigError, match="loader state"):
        open_loader().set_state(state)


def test_rules_are_checked_when_a_stage_is_made():
    with pytest.raises(ConfigError, match="p_high_res"):
        gm.DatasetRule(p_high_res=2)
    with pytest.raises(ConfigError, match="not a DatasetRule"):
        gm.Stage(mixture={"pixmo_cap": 1}, rules={"pixmo_cap": 0.3})  # pyright: ignore[reportArgumentType]
