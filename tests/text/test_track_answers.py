import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_random import ScriptedRandom

from grain_molmo.errors import ExampleError
from grain_molmo.text.format import format_example
from grain_molmo.text.points import parse_points

TRACK, GROUND, SINGLE = (
    "video_point_track_per_frame",
    "video_point_ground_start_end",
    "video_single_point_track_per_frame",
)


def frame(time, **objects):
    """Objects as (x, y), or (x, y, True) where they are occluded."""
    points = {key: {"point": value[:2], "occluded": len(value) == 3} for key, value in objects.items()}
    return {"frame": 0, "time": time, "points": points}


def format_track(frames, rng=None, style=TRACK, prompt_mode="uber_model_v2", fps=1, **arguments):
    """The user's text and the answer, without tag and chat markers; (128, 64) pixels, as in the known answers."""
    size = {"width": 128, "height": 64}
    message = {"style": style, "label": "the dog", "sampling_fps": fps, "points": frames, **size}
    user, answer = format_example(
        message, rng or np.random.RandomState(0), style_mode="no_style", prompt_mode=prompt_mode, **arguments
    )
    return user.removeprefix("<|im_start|>user\n").removesuffix("<|im_end|>\n<|im_start|>assistant\n"), answer


def tag(coords):
    return f'<tracks coords="{coords}">the dog</tracks>'


FRAMES = [
    frame(2.0, a=(60, 1), c=(0.1, 0.1), b=(12, 5)),
    frame(0.0, a=(100, 1), b=(4, 4), c=(0, 0, True)),
    frame(1.5, a=(0, 0, True)),
    frame(1.0, b=(8, 4)),
]


def test_tracks_by_frame():
    """Molmo2 §2.8: frames by time, objects numbered by first appearance and listed by number."""
    coords = "0.0 1 031 062 2 781 016;1.0 1 062 062;2.0 1 094 078 2 469 016 3 001 002"
    prompt, answer = format_track(FRAMES, ScriptedRandom(("randint", (0, 10), 0)))
    assert (prompt, answer) == ("Track the dog at 1 fps.", tag(coords))


def test_only_annotations_near_a_shown_frame_are_answered():
    frames = [frame(t, a=(64, 32)) for t in (0.0, 1.0, 2.0, 3.0, 4.0)]
    answer = format_track(frames, frame_times=[0.0, 1.009, 1.989, 3.02])[1]
    assert answer == tag("0.0 1 500 500;1.0 1 500 500")
    assert format_track(frames, frame_times=[0.5])[1] == "No tracks available."
    assert format_track(frames, frame_times=[])[1] == "No tracks available."


@pytest.mark.parametrize(
    ("fps", "times"), [(1, (1.0, 2.009, 3.0)), (2, (0.5, 1.0, 2.009, 2.5, 3.0)), (3, (1.0, 2.009, 3.0))]
)
def test_annotations_are_kept_on_the_grid_of_the_rate_and_printed_as_they_are(fps, times):
    frames = [frame(t, a=(64, 32)) for t in (0.5, 0.6, 1.0, 2.009, 2.5, 2.52, 3.0)]
    coords = ";".join(f"{time:.1f} 1 500 500" for time in times)
    assert format_track(frames, fps=fps)[1] == tag(coords)


def test_grids_hold_at_rates_of_real_videos():
    frames = [frame(i / 30, a=(64, 32)) for i in range(3000)]
    assert len(parse_points(format_track(frames, fps=6)[1])) == 600


@pytest.mark.parametrize("frames", [[], None])
def test_no_annotations_mean_that_there_are_none(frames):
    assert format_track(frames)[1] == format_track(frames, style=GROUND)[1] == "There are none."


@pytest.mark.parametrize("style", [TRACK, GROUND])
def test_a_track_that_is_hidden_throughout_is_left_out(style):
    """The published code trains on an empty answer (Molmo2 §11)."""
    with pytest.raises(ExampleError, match="empty_answer"):
        format_track([frame(0.0, a=(1, 1, True))], style=style)


def test_tracks_at_two_fps_leave_the_rate_out_half_the_time():
    frames = [frame(0.0, a=(64, 32))]
    with_rate = ScriptedRandom(("uniform", 0.5), ("randint", (0, 10), 0))
    without = ScriptedRandom(("uniform", 0.49), ("randint", (0, 8), 0))
    assert format_track(frames, with_rate, fps=2)[0] == "Track the dog at 2 fps."
    assert format_track(frames, without, fps=2.0)[0] == "Track the dog."


def test_ground_keeps_the_first_and_last_annotation_of_each_object():
    """Molmo2 §2.8: chosen whether it can be seen or not, printed only if it can."""
    frames = [
        frame(0.0, a=(64, 32, True), b=(32, 16)),
        frame(1.0, a=(64, 32), b=(32, 16)),
        frame(2.5, a=(64, 32), b=(64, 32)),
        frame(3.0, a=(96, 48)),
    ]
    rng = ScriptedRandom(("randint", (0, 7), 2))
    prompt, answer = format_track(frames, rng, style=GROUND, fps=None)
    assert prompt == "Find the start and the end of the dog in the video."
    assert answer == tag("0.0 1 250 250;2.5 1 500 500;3.0 2 750 750")


ONE_OF_TWO = [
    frame(0.0, a=(4, 4), b=(64, 32)),
    frame(1.0, a=(8, 4), b=(64, 32)),
    frame(1.5, a=(8, 4)),
    frame(2.0, a=(12, 4, True), b=(64, 32)),
    frame(3.0, a=(16, 4)),
]


def test_a_track_from_a_point_follows_that_object_alone():
    """The published code prints all objects (Molmo2 §11)."""
    prompt, answer = format_track(ONE_OF_TWO, ScriptedRandom(("uniform", 0.79), ("randint", (0, 12), 0)), SINGLE)
    assert prompt == 'Track <points coords="0.0 1 031 062">the dog</points> at 1 fps.'
    assert answer == tag("1.0 1 062 062;3.0 1 125 062")


def test_a_fifth_of_the_tracks_start_at_any_visible_point():
    rng = ScriptedRandom(("uniform", 0.8), ("randint", (0, 7), 4), ("randint", (0, 12), 0))
    prompt, answer = format_track(ONE_OF_TWO, rng, SINGLE)
    assert prompt == 'Track <points coords="1.5 1 062 062">the dog</points> at 1 fps.'
    assert answer == tag("3.0 1 125 062")


def test_evaluation_starts_at_the_first_visible_point():
    rng = ScriptedRandom(("randint", (0, 12), 0))
    prompt, _ = format_track([frame(0.0, a=(1, 1, True)), *ONE_OF_TWO[1:]], rng, SINGLE, training=False)
    assert '"1.0 1 062 062"' in prompt


def test_a_point_with_nothing_after_it():
    rng = ScriptedRandom(("uniform", 0.8), ("randint", (0, 7), 6), ("randint", (0, 12), 0))
    assert format_track(ONE_OF_TWO, rng, SINGLE)[1] == "No tracks available."


def test_a_point_is_taken_from_frames_that_are_not_shown_if_it_must():
    rng = ScriptedRandom(("uniform", 0.1), ("randint", (0, 12), 0))
    prompt, answer = format_track(ONE_OF_TWO, rng, SINGLE, frame_times=[9.0])
    assert '"0.0 1 031 062"' in prompt
    assert answer == "No tracks available."


@pytest.mark.parametrize("frames", [None, [], [frame(0.0, a=(1, 1, True))]])
def test_a_track_from_a_point_needs_a_visible_point(frames):
    with pytest.raises(ExampleError, match="no_points"):
        format_track(frames, style=SINGLE)


def test_without_templates_the_prompt_is_what_to_follow():
    assert format_track(FRAMES, ScriptedRandom(), prompt_mode="none")[0] == "the dog"
    rng = ScriptedRandom(("uniform", 0.1))
    prompt = format_track(ONE_OF_TWO, rng, SINGLE, prompt_mode="none")[0]
    assert prompt == '<points coords="0.0 1 031 062">the dog</points>'


def test_plain_tracks_say_time_and_object():
    lines = format_track(FRAMES, point_format="plain", image_sizes=[(128, 64)])[1].splitlines()
    assert lines[:3] == [
        "Time: 0.0 Object: 1 Point: x=4 y=4",
        "Time: 0.0 Object: 2 Point: x=100 y=1",
        "Time: 1.0 Object: 1 Point: x=8 y=4",
    ]
    prompt, _ = format_track(ONE_OF_TWO, np.random.RandomState(0), SINGLE, point_format="plain", training=False)
    assert "the dog (Time: 0.0 Point: x=4 y=4)" in prompt
    assert format_track([], point_format="plain")[1] == "There are none."
    assert format_track([frame(1.0, a=(200, -5))], point_format="plain")[1] == "Time: 1.0 Object: 1 Point: x=127 y=0"


def test_points_outside_the_frame_move_to_its_edge():
    assert format_track([frame(1.0, a=(200, -5))])[1] == tag("1.0 1 1000 000")


def test_hidden_points_need_no_place():
    entry = {"point": None, "occluded": True}
    frames = [{"time": "0:00", "points": {1: entry}}, {"time": 1, "points": {1: {"point": [64, 32]}}}]
    assert format_track(frames)[1] == tag("1.0 1 500 500")


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ({}, "bad_tracks"),
        ("frames", "bad_tracks"),
        ([3], "bad_tracks"),
        ([{"time": 0.0}], "bad_tracks"),
        ([{"time": 0.0, "points": [[1, 2]]}], "bad_tracks"),
        ([{"time": 0.0, "points": {0: [1, 2]}}], "bad_tracks"),
        ([{"time": 0.0, "points": {0: {"occluded": False}}}], "bad_tracks"),
        ([{"points": {}}], "bad_time"),
        ([frame("noon", a=(1, 1))], "bad_time"),
        ([frame(float("nan"), a=(1, 1))], "bad_time"),
        ([frame(-1.0, a=(1, 1))], "bad_time"),
        ([frame(0.0, a=(1, float("nan")))], "bad_points"),
        ([frame(0.0, a=(1,))], "bad_points"),
        ([frame(0.0, a=("x", 1))], "bad_points"),
        ([frame(0.3, a=(1, float("inf")))], "bad_points"),
    ],
)
@pytest.mark.parametrize("style", [TRACK, GROUND, SINGLE])
def test_malformed_tracks_name_their_reason(style, frames, reason):
    with pytest.raises(ExampleError) as caught:
        format_track(frames, style=style)
    assert caught.value.reason == reason


@pytest.mark.parametrize("fps", [None, 0, -1, float("nan"), float("inf"), "1", True])
def test_a_rate_must_be_a_number_above_zero(fps):
    with pytest.raises(ExampleError, match="bad_fps"):
        format_track(FRAMES, fps=fps)


def test_tracks_need_a_size():
    message = {"style": GROUND, "label": "x", "points": FRAMES}
    arguments = {"style_mode": "no_style", "prompt_mode": "none"}
    with pytest.raises(ExampleError, match="no_scale"):
        format_example(message, ScriptedRandom(), **arguments)
    assert format_example(message, ScriptedRandom(), image_sizes=[(128, 64)], **arguments)


PIXEL = st.tuples(st.floats(0, 128, allow_subnormal=False), st.floats(0, 64, allow_subnormal=False))
OBJECTS = st.dictionaries(st.sampled_from("abcd"), PIXEL, min_size=1)


@given(st.lists(OBJECTS, min_size=1, max_size=6), st.randoms())
def test_tracks_read_back_with_one_number_an_object(objects_by_second, random):
    frames = [frame(float(t), **objects) for t, objects in enumerate(objects_by_second)]
    random.shuffle(frames)
    parsed = parse_points(format_track(frames)[1], (128, 64))
    numbers: dict[int, set] = {}
    for point in parsed:
        near = {
            key
            for key, place in objects_by_second[int(point.frame)].items()
            if abs(place[0] - point.x) <= 0.0641 and abs(place[1] - point.y) <= 0.0321
        }
        numbers.setdefault(point.object_id, set("abcd")).intersection_update(near)
    assert len(parsed) == sum(map(len, objects_by_second))
    assert all(numbers.values())
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
