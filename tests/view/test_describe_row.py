"""Packed rows as a view shows them: read from the row's own arrays, whatever the mesh."""

import jax
import numpy as np
import pytest

import grain_molmo as gm
from grain_molmo.attention import attention_mask
from grain_molmo.view.describe_row import attention_map, describe_packed_row
from grain_molmo.view.row_view import describe_row

pytestmark = pytest.mark.xdist_group("loader")


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def tree(n_branches, seed=0):
    messages = [{"style": "user_qa", "question": f"{i}?", "answer": f"No {i}."} for i in range(n_branches)]
    return {"image": noise(50, 60, seed), "message_list": messages}


def test_a_row_says_where_each_example_and_branch_lies(pack, tokenizer):
    packed = pack(tree(3), {"messages": ["Hi.", "Ho."]})

    card = describe_packed_row(packed.row, packed.infos, packed.stage, tokenizer, step=7, number=2)

    first, second = (example.place for example in card.examples)
    assert (card.step, card.row) == (7, 2)
    assert first.tokens[0] == 0
    assert second.tokens[0] == first.tokens[1]
    assert len(first.branches) == 3
    assert first.branches[-1][1] == first.tokens[1]
    assert card.n_tokens == second.tokens[1] == int((packed.row["segment_ids"] > 0).sum())
    assert card.n_crops == 2
    assert card.n_pooled == int((packed.row["token_pooling"] >= 0).any(axis=1).sum())
    trained = np.concatenate([np.arange(*run) for example in card.examples for run in example.place.trained])
    assert np.array_equal(trained, np.flatnonzero(packed.row["loss_weights"]))


@pytest.mark.parametrize("mode", [None, "image_tokens", "within_image"])
def test_the_map_of_attention_is_right_wherever_it_says_none_or_all(pack, tokenizer, mode):
    packed = pack(tree(2), tree(3, seed=1), {"messages": ["Hi.", "Ho."]}, seq_len=3001)
    size, base = 24, tokenizer.special_base
    mask = np.array(attention_mask({key: value[None] for key, value in packed.row.items()}, mode, base)[0])
    mask[packed.row["segment_ids"] == 0] = False  # what padding gets is never read
    padded = np.zeros((126 * size, 126 * size), bool)
    padded[:3001, :3001] = mask
    blocks = padded.reshape(126, size, 126, size)

    shown = attention_map(packed.row, mode, base)

    assert shown.shape == (126, 126)
    assert not blocks.any(axis=(1, 3))[shown == 0].any()
    no_padding = (padded.any(axis=1)).reshape(126, size).all(axis=1)
    assert blocks.all(axis=(1, 3))[(shown == 2) & no_padding[:, None]].all()
    assert (blocks.any(axis=(1, 3)) == (shown > 0)).mean() > 0.95
    assert {0, 1, 2} == set(np.unique(shown).tolist())


def test_the_loader_stays_where_it_is_while_a_row_is_shown(open_loader):
    loader = open_loader()
    next(loader)
    state, info = loader.get_state(), loader.batch_info

    shown = loader.show_row(1)

    assert loader.batch_info is info
    assert loader.get_state() == state
    assert [example.id for example in shown.card.examples] == [one.id for one in info.rows[1]]
    assert shown.card.step == 0
    assert loader.show_row(0, step=3).card.step == 3
    assert "tokens" in repr(shown)


def test_a_row_shows_the_same_on_a_mesh_that_cuts_it_into_context_shards(open_loader):
    mesh = jax.make_mesh((2, 4), ("data", "context"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    whole, cut = open_loader().show_row(0).card, open_loader(mesh=mesh).show_row(0).card

    assert [example.place for example in whole.examples] == [example.place for example in cut.examples]
    for ours, theirs in zip(whole.examples, cut.examples, strict=True):
        assert len(ours.pictures) == len(theirs.pictures)
        for one, other in zip(ours.pictures, theirs.pictures, strict=True):
            assert np.array_equal(one.decode(), other.decode())
            assert one.grid == other.grid


@pytest.mark.parametrize("place", [{"row": 2}, {"row": -1}, {"step": -1}, {"row": 0.5}, {"step": "x"}])
def test_a_row_that_there_is_not_is_refused(open_loader, place):
    with pytest.raises(gm.errors.ConfigError, match="there is no such step or row"):
        open_loader().show_row(**place)


def test_a_blanked_example_says_what_was_wrong_with_its_media(pack, tokenizer):
    packed = pack({"image": np.zeros((50, 60, 3), np.uint8), "messages": ["A?", "B"]})
    infos = [gm.render.ExampleInfo(**{**vars(packed.infos[0]), "blanked": "truncated", "detail": "half a file"})]

    (example,) = describe_packed_row(packed.row, infos, packed.stage, tokenizer).examples

    assert example.problem == "truncated: half a file"


def test_an_example_that_an_evaluation_cannot_ask_is_shown_with_its_reason(sample_dir):
    names = {"stage": "pretraining", "data_dir": sample_dir, "tokenizer": "bytes"}
    with gm.make_eval_loader("pixmo_points:train", batch_size=1, **names) as loader:
        cards = [loader.show_row(step=step).card for step in range(8)]

    lost = [example for card in cards for example in card.examples if example.problem]
    assert lost
    assert all("EachMessage" in example.problem and not example.conversations for example in lost)


def test_a_prompt_is_shown_with_nothing_learned(sample_dir):
    questions = gm.EachMessage(gm.PixMoPoints(data_dir=sample_dir))
    names = {"stage": "pretraining", "data_dir": sample_dir, "tokenizer": "bytes"}
    with gm.make_eval_loader(questions, batch_size=1, **names) as loader:
        (example,) = loader.show_row().card.examples

    (conversation,) = example.conversations
    assert {span.kind for span in conversation.spans} == {"prompt", "visual"}
    assert conversation.spans[-1].text.endswith("assistant\n")
    assert len(example.pictures) == 2


def test_points_in_pixels_of_a_picture_that_the_row_does_not_hold_are_not_drawn_elsewhere(pack, tokenizer):
    example = {"image": noise(50, 1000), "messages": ["Where?", "Point: x=300 y=20"]}
    packed = pack(example)

    (card,) = describe_packed_row(packed.row, packed.infos, packed.stage, tokenizer).examples

    assert "x=300" in card.conversations[0].spans[-1].text
    assert not any(picture.marks for picture in card.pictures)


def test_what_a_row_says_of_an_example_is_said_once(pack, tokenizer):
    packed = pack(tree(2))

    (card,) = describe_packed_row(packed.row, packed.infos, packed.stage, tokenizer).examples

    assert not {"tokens", "crops", "pooled"} & set(card.facts)
    assert card.place.tokens[1] > card.place.pooled[1] > 0


def test_points_of_a_row_lie_on_the_picture_that_they_are_of_in_the_colour_of_their_branch(pack, tokenizer):
    messages = [
        {"style": "user_qa", "question": "One?", "answer": '<points coords="1 1 250 750">cup</points>'},
        {"style": "user_qa", "question": "Two?", "answer": '<points coords="2 1 500 100">hat</points>'},
    ]
    packed = pack({"image": [noise(60, 80), noise(900, 400, seed=1)], "message_list": messages})

    (card,) = describe_packed_row(packed.row, packed.infos, packed.stage, tokenizer).examples

    titles = [f"picture {number}, {what}" for number in (1, 2) for what in ("whole", "in detail")]
    assert [picture.title for picture in card.pictures] == titles
    cup, hat = ({(mark.label, mark.x, mark.y) for mark in picture.marks} for picture in card.pictures[1::2])
    assert (cup, hat) == ({("cup", 0.25, 0.75)}, {("hat", 0.5, 0.1)})
    group_of = {mark.label: mark.group for picture in card.pictures for mark in picture.marks}
    for label, group in group_of.items():
        (of_label,) = (one for one in card.conversations if any(label in span.text for span in one.spans))
        assert of_label.group == group
    assert set(group_of.values()) == {0, 1}
    for picture in card.pictures:
        assert picture.decode().shape == (picture.height, picture.width, 3)
        assert picture.grid.tokens_x
    assert card.pictures[3].height > card.pictures[3].width
    assert sum(span.kind == "visual" for span in card.shared) == 1  # of both pictures and what stands between


def test_no_two_pictures_of_a_run_share_a_file(pack, tokenizer):
    picture = {"image": [noise(60, 80), noise(60, 80, seed=1)], "messages": ["What?", "That."]}
    film = {"video": noise_film(3), "metadata": {"video_fps": 1}, "messages": ["What?", "That."]}
    packed = pack(picture, picture, film, film, seq_len=8192, max_frames=4)

    keys = []
    for step, number in ((0, 0), (0, 1), (1, 0)):
        card = describe_packed_row(packed.row, packed.infos, packed.stage, tokenizer, step=step, number=number)
        keys += [one.key for example in card.examples for one in (*example.pictures, *filter(None, [example.film]))]

    assert len(keys) == len(set(keys)) == 3 * (2 * 4 + 2)


def noise_film(n_frames):
    return np.stack([noise(60, 80, seed) for seed in range(n_frames)])


def test_a_video_of_a_row_is_shown_by_the_frames_that_its_answer_points_at(pack, tokenizer):
    frames = np.stack([np.full((60, 80, 3), 10 * i, np.uint8) for i in range(8)])
    answer = '<tracks coords="2.0 1 250 750;6.0 1 500 100">ball</tracks>'
    film = {"video": frames, "metadata": {"video_fps": 1, "source": "made"}, "messages": ["Where?", answer]}
    packed = pack(film, seq_len=8192, max_frames=20)

    card = describe_packed_row(packed.row, packed.infos, packed.stage, tokenizer, max_stills=3)

    (example,) = card.examples
    times = [still.time for still in example.film.stills]
    assert len(times) == 3
    assert {"2.0", "6.0"} < set(times)
    marks = {still.time: [(mark.x, mark.y) for mark in still.marks] for still in example.film.stills}
    assert (marks["2.0"], marks["6.0"]) == ([(0.25, 0.75)], [(0.5, 0.1)])
    assert [track.places for track in example.film.tracks] == [((2.0, 0.25, 0.75), (6.0, 0.5, 0.1))]
    assert example.film.decode()[:, 0, 0, 0].tolist() == [10 * int(float(time)) for time in times]
    (info,) = packed.infos
    assert example.film.num_frames == info.frames > 3
    assert example.film.duration_s == max(map(float, _times_of(packed, tokenizer)))
    assert (example.film.width, example.film.height) == (378, 378)
    assert example.film.grid.tokens_x
    assert example.fields["metadata"]["source"] == "made"
    assert sum(span.kind == "visual" for span in example.conversations[0].spans) == 1


def _times_of(packed, tokenizer):
    (view,) = describe_row(packed.row, packed.infos, tokenizer).examples
    return [frame.time for frame in view.frames]


def test_facts_of_an_example_say_how_much_it_counts_and_where_its_frames_are_from(pack, tokenizer):
    packed = pack({"image": noise(50, 60), "messages": ["A?", "B"]})
    given = {**vars(packed.infos[0]), "index": 7, "epoch": 2, "segment": 1, "loss_weight": 1.25}

    def facts(**changes):
        infos = [gm.render.ExampleInfo(**{**given, **changes})]
        (card,) = describe_packed_row(packed.row, infos, packed.stage, tokenizer).examples
        assert card.index == 7
        return card.facts

    assert facts() == {"epoch": "2", "segment": "1", "loss weight": "1.25"}
    assert facts(blanked="truncated", detail="half")["loss weight"] == "0"
    assert facts(frames=8, frames_wanted=8, frames_from="prepared")["frames"] == "8, prepared"
    assert facts(frames=8, frames_wanted=30, frames_from="original")["frames"] == "8 of 30, original"
    assert facts(frames=8, frames_wanted=30)["frames"] == "8 of 30"


@pytest.mark.parametrize("mode", [None, "image_tokens", "within_image"])
def test_a_row_shows_the_attention_that_was_asked_for_and_its_own_budgets(pack, tokenizer, mode):
    packed = pack(tree(2), seq_len=3001, crops_per_row=9)

    card = describe_packed_row(packed.row, packed.infos, packed.stage, tokenizer, attention=mode)

    assert np.array_equal(card.attention, attention_map(packed.row, mode, tokenizer.special_base))
    assert ("later" in card.attention_mode, "others" in card.attention_mode) == (
        mode == "within_image",
        mode == "image_tokens",
    )
    assert (card.max_tokens, card.max_crops) == (3001, 9)
    assert card.max_pooled == len(packed.row["token_pooling"])


def test_the_map_of_attention_takes_no_notice_of_padding(pack, tokenizer):
    packed = pack({"messages": ["Hi.", "Ho."]}, {"messages": ["And then?", "No more of it."]}, seq_len=1280)
    end = int((packed.row["segment_ids"] > 0).sum())
    size = 10
    last = (end - 1) // size  # a block of some tokens and some padding
    assert end % size

    shown = attention_map(packed.row, None, tokenizer.special_base)

    second = packed.infos[1].tokens[0]
    assert not shown[last, : second // size].any()  # it sees nothing of the first example
    within = slice(-(-second // size), last)
    assert (shown[last, within] == 2).all()  # and all of its own that came before
    assert within.start < within.stop
    assert not shown[last + 1 :].any()
    assert not shown[:, last + 1 :].any()
