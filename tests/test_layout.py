"""Where media lie in a row that context shards share, and that the model sees the same as in a row of one."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grain_molmo.encode import EncodedExample, LostExample
from grain_molmo.errors import ConfigError
from grain_molmo.layout import Medium, RowLayout, crops_for_any_row
from grain_molmo.packing.mixture import Draw
from grain_molmo.render import render_rows
from grain_molmo.slots import FramesSlot, PictureSlot
from grain_molmo.stages import STAGES, DatasetRule, Stage
from grain_molmo.text.assemble import TokenArrays
from grain_molmo.vision.crops import FRAME_POOLED, Tiling, select_tiling
from grain_molmo.vision.videos import as_video

STAGE = Stage(mixture={"mine": 1}, seq_len=4096, crops_per_row=12, max_crops=4, max_frames=12)


@st.composite
def budgets(draw):
    """(crops of a row, crops of its largest picture, shards)"""
    crops = draw(st.integers(2, 60))
    return crops, draw(st.integers(2, crops)), draw(st.integers(1, 9))


@st.composite
def rows_of_media(draw, crops, picture):
    media, left = [], crops
    while left and draw(st.integers(0, 9)):
        divisible = left == 1 or draw(st.booleans())
        n_crops = draw(st.integers(1, left) if divisible else st.integers(2, min(left, picture)))
        media.append(Medium(n_crops, n_crops * (FRAME_POOLED if divisible else 150), divisible))
        left -= n_crops
    return media


def layout_for(crops, picture, n_shards):
    room = crops_for_any_row(crops, picture, n_shards)
    return RowLayout(n_shards, 64 * n_shards, room, 196 * room, 9)


@given(st.data())
def test_media_of_any_row_find_place_in_order_and_pictures_stay_whole(data):
    crops, picture, n_shards = data.draw(budgets())
    media = data.draw(rows_of_media(crops, picture))
    layout = layout_for(crops, picture, n_shards)
    ends = {"crops": [0] * n_shards, "pooled": [0] * n_shards}
    last_shard = 0
    for medium, pieces in zip(media, layout.place(media), strict=True):
        assert medium.divisible or len(pieces) == 1
        parts = [part for piece in pieces for part in range(*piece.crops_of_medium.indices(10**6))]
        pooled = [part for piece in pieces for part in range(*piece.pooled_of_medium.indices(10**6))]
        assert (parts, pooled) == ([*range(medium.n_crops)], [*range(medium.n_pooled)])
        for piece in pieces:
            assert piece.shard >= last_shard
            last_shard = piece.shard
            assert piece.crops.start == ends["crops"][piece.shard]
            assert piece.pooled.start == ends["pooled"][piece.shard]
            ends["crops"][piece.shard], ends["pooled"][piece.shard] = piece.crops.stop, piece.pooled.stop
            assert piece.crops.stop <= layout.crops_per_shard
            assert piece.pooled.stop <= layout.pooled_per_shard


@cache
def rows_of_pictures(crops, picture):
    """All rows of media that may not be cut; a video that is cut leaves no room unused, as media of one crop."""
    return [
        (),
        *(
            (first, *rest)
            for first in range(1, min(crops, picture) + 1)
            for rest in rows_of_pictures(crops - first, picture)
        ),
    ]


def fits(row, room, n_shards):
    """Whether the media go into so many shards in order, found by trying each place of every cut."""
    if not row:
        return True
    return n_shards > 0 and any(
        sum(row[:count]) <= room and fits(row[count:], room, n_shards - 1) for count in range(1, len(row) + 1)
    )


@pytest.mark.parametrize("crops", [4, 7, 9])
@pytest.mark.parametrize("n_shards", [1, 2, 3, 4])
def test_the_room_of_a_shard_is_the_least_that_holds_every_row(crops, n_shards):
    for picture in range(2, crops + 1):
        room = crops_for_any_row(crops, picture, n_shards)
        rows = rows_of_pictures(crops, picture)
        assert all(fits(row, room, n_shards) for row in rows)
        assert room == picture or not all(fits(row, room - 1, n_shards) for row in rows)


def test_crops_are_spread_over_the_shards_as_evenly_as_may_be():
    layout = layout_for(128, 9, 4)
    (video,) = layout.place([Medium(40, 40 * 81, True)])
    assert [len(range(*piece.crops.indices(99))) for piece in video] == [10, 10, 10, 10]
    pictures = layout.place([Medium(n_crops, n_crops * 150, False) for n_crops in (5, 7, 3, 9, 6)])
    assert [piece.shard for (piece,) in pictures] == [0, 1, 1, 2, 3]


def test_the_presets_shapes_for_context_shards():
    shapes = {
        (name, n): (RowLayout.of(STAGES[name], n).crops, RowLayout.of(STAGES[name], n).pooled)
        for name, n in [("pretraining", 1), ("sft", 1), ("sft", 4), ("long_context", 2), ("long_context", 8)]
    }
    assert shapes == {
        ("pretraining", 1): (24, 4096),
        ("sft", 1): (128, 16_384),
        ("sft", 4): (200, 39_200),
        ("long_context", 2): (408, 73_728),
        ("long_context", 8): (552, 108_192),
    }


def test_high_resolution_visits_need_more_room_in_a_shard():
    plain = replace(STAGES["pretraining"], rules={})
    high = replace(plain, rules={"pixmo_points": DatasetRule(p_high_res=0.3)})
    assert RowLayout.of(plain, 2).crops == 24 + 8
    assert RowLayout.of(high, 2).crops == 48  # a picture may fill a row alone, then a shard must hold a row


def test_tokens_that_do_not_divide_among_context_shards_are_refused():
    with pytest.raises(ConfigError, match="seq_len 4096 does not divide among 3 context shards"):
        RowLayout.of(STAGE, 3)


def test_a_row_that_no_plan_makes_is_refused():
    with pytest.raises(ValueError, match="a row of 40 crops does not fit 2 x 8"):
        RowLayout.of(STAGE, 2).place([Medium(40, 40, True)])


# Rendered rows


def pixels(seed, *shape):
    return np.random.RandomState(seed).randint(0, 256, shape, np.uint8)


@dataclass
class Picture:
    """Pixels, or a failure, of a picture, and how often they were asked for."""

    seed: int
    size_hw: tuple[int, int]
    broken: bool = False
    decoded: int = 0

    @property
    def shape(self):
        return (*self.size_hw, 3)

    def __array__(self, dtype=None, copy=None):
        self.decoded += 1
        if self.broken:
            return np.zeros(self.size_hw, np.complex64)
        return pixels(self.seed, *self.shape)


def text_arrays(n_tokens):
    ids = np.arange(1, n_tokens + 1, dtype=np.int32)
    return TokenArrays(ids, ids, np.ones(n_tokens, np.float32), ids, None)


def example_of(number, slots, n_tokens):
    return EncodedExample(Draw("mine", 0, number), f"id {number}", text_arrays(n_tokens), tuple(slots))


def picture_example(number, *sizes_hw, n_tokens=100, broken=False):
    slots, first = [], 0
    for place, size_hw in enumerate(sizes_hw):
        slots.append(PictureSlot(Picture(10 * number + place, size_hw, broken), select_tiling(*size_hw, 4), first))
        first += slots[-1].n_crops
    return example_of(number, slots, n_tokens)


def video_example(number, n_frames, n_tokens=100):
    video = as_video(pixels(number, n_frames, 20, 30, 3), fps=1)
    return example_of(number, [FramesSlot(video, np.arange(n_frames) + 0.1, 0.0, n_frames)], n_tokens)


def rendered(rows, n_context=1, shards=None):
    with ThreadPoolExecutor(2) as pool:
        return render_rows(rows, STAGE, pool, layout=RowLayout.of(STAGE, n_context), shards=shards)


def features(batch, row):
    """[K, 588] float64: for the k-th `<im_patch>` of the row, the mean of its patches."""
    patches_ND = batch["images"][row].reshape(-1, 588)
    means = [patches_ND[window[window >= 0]].mean(0) for window in batch["token_pooling"][row] if (window >= 0).any()]
    return np.array(means).reshape(-1, 588)


examples = st.one_of(
    st.builds(lambda n: ("video", n), st.integers(1, 8)),
    st.builds(lambda *sizes: ("pictures", sizes), st.sampled_from([(40, 40), (900, 300), (700, 800)])),
    st.just(("text", None)),
)


@settings(max_examples=15)
@given(st.lists(examples, max_size=5), st.sampled_from([2, 4]))
def test_context_shards_change_nothing_of_what_a_row_shows(kinds, n_context):
    row, crops = [], 0
    for number, (kind, how) in enumerate(kinds):
        made = (
            video_example(number, how)
            if kind == "video"
            else picture_example(number, *(how if kind == "pictures" else ()))
        )
        if crops + made.n_crops <= STAGE.crops_per_row:
            row.append(made)
            crops += made.n_crops
    (plain, plain_infos), (cut, infos) = rendered([row]), rendered([row], n_context)
    assert infos == plain_infos
    assert np.array_equal(features(cut, 0), features(plain, 0))
    assert all(np.array_equal(cut[key], plain[key]) for key in cut.keys() - {"images", "token_pooling"})
    used = cut["images"][0].any((1, 2))
    assert np.array_equal(cut["images"][0][used], plain["images"][0][plain["images"][0].any((1, 2))])


def test_each_shards_windows_pool_patches_of_its_own_crops():
    layout = RowLayout.of(STAGE, 4)
    batch, _ = rendered([[video_example(1, 7), picture_example(2, (700, 800))]], 4)
    blocks_NPK = batch["token_pooling"][0].reshape(4, layout.pooled_per_shard, 9)
    used = 0
    for shard, block_PK in enumerate(blocks_NPK):
        own = block_PK[block_PK >= 0] - shard * layout.patches_per_shard
        assert ((own >= 0) & (own < layout.patches_per_shard)).all()
        used += own.size > 0
    assert used > 2


def test_a_shards_part_is_its_block_of_the_whole():
    rows = [[video_example(1, 7), picture_example(2, (700, 800))], [picture_example(3, (40, 40))], []]
    whole, _ = rendered(rows, 4)
    blocks = whole["images"].reshape(3, 4, -1, 729, 588)
    for shards in [(0,), (1, 3)]:
        part, _ = rendered(rows, 4, shards)
        assert np.array_equal(part["images"].reshape(3, len(shards), -1, 729, 588), blocks[:, shards])
        assert all(np.array_equal(part[key], whole[key]) for key in part.keys() - {"images"})


def picture_of(example):
    return example.slots[0].picture


def test_media_of_examples_that_are_not_a_shards_are_not_decoded():
    first, last = picture_example(1, (700, 800), n_tokens=2048), picture_example(2, (700, 800), n_tokens=2048)
    rendered([[first, last]], 2, shards=(0,))
    assert (picture_of(first).decoded, picture_of(last).decoded) == (1, 0)


def test_who_has_tokens_of_an_example_learns_that_its_picture_is_broken_in_another_shard():
    # The first shard has all tokens, the second the crops of the broken pictures.
    row = [
        picture_example(1, (40, 40), (40, 40)),
        picture_example(2, (700, 800), n_tokens=50, broken=True),
        picture_example(3, (40, 40), n_tokens=50, broken=True),
    ]
    whole, infos = rendered([row], 2)
    assert [info.blanked is None for info in infos[0]] == [True, False, False]
    part, part_infos = rendered([row], 2, shards=(0,))
    assert part_infos == infos
    assert np.array_equal(part["loss_weights"], whole["loss_weights"])
    assert whole["loss_weights"].sum() == 100


@pytest.mark.parametrize("n_context", [1, 2])
def test_a_lost_example_keeps_its_place_blank(n_context):
    gone = picture_example(2, (700, 800), n_tokens=60)
    lost = LostExample(gone.draw, gone.n_tokens, gone.n_crops, gone.n_pooled, "damaged_record", "record 7 is damaged")
    before, after = picture_example(1, (40, 40)), video_example(3, 3)
    (there, there_infos), (batch, infos) = (rendered([[before, one, after]], n_context) for one in (gone, lost))
    assert infos[0][0] == there_infos[0][0]
    assert infos[0][2] == there_infos[0][2]
    assert (infos[0][1].blanked, infos[0][1].detail) == ("damaged_record", "record 7 is damaged")
    for key in ("input_tokens", "segment_ids", "loss_weights"):
        expected = there[key].copy()
        expected[0, 100:160] = 0
        assert np.array_equal(batch[key], expected)
    assert len(features(batch, 0)) == before.n_pooled + after.n_pooled
    if n_context == 1:
        first, last = infos[0][1].crops
        assert not batch["images"][0, first:last].any()
        assert (batch["token_pooling"][0, slice(*infos[0][1].pooled)] == -1).all()
        assert np.array_equal(batch["images"][0, last:], there["images"][0, last:])


def test_a_tiling_pools_at_most_196_of_a_crop():
    tilings = [Tiling(rows, cols) for rows in range(1, 9) for cols in range(1, 9)]
    assert max(tiling.n_pooled / tiling.n_crops for tiling in tilings) == 196
