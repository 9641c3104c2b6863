"""What a model wrote, read back: everything that our own formatter writes, and anything else without a fault."""

import json
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grain_molmo.errors import ConfigError
from grain_molmo.text.format import format_example
from grain_molmo.text.parse import read_count, read_points, read_tracks
from grain_molmo.text.points import image_points, multi_image_points, parse_points, per_mille, plain_points

SIZES = st.tuples(st.integers(1, 3000), st.integers(1, 3000))
SHARE = st.floats(0, 1, allow_subnormal=False)
POINTS = st.lists(st.tuples(SHARE, SHARE), min_size=1, max_size=20)
LABELS = st.text(st.characters(exclude_characters="<>", exclude_categories=["Cs"]), max_size=30)
STYLES = ["pointing", "point_count", "point_then_count", "count"]


def answer(message, size, point_format="markup", **scene):
    """What the model must write to a message."""
    formats = {"style_mode": "no_style", "prompt_mode": "none", "point_format": point_format, "training": False}
    turns = format_example(message, np.random.RandomState(0), image_sizes=[size], **formats, **scene)
    return turns[-1]


def pixels(points, size):
    return [(x * size[0], y * size[1]) for x, y in points]


def written(points, scale, size, point_format):
    """Where a reader of the answer finds the points: on a grid of thousandths, or of pixels without the far edge."""
    width, height = size
    if point_format == "markup":
        return [(x * width / 1000, y * height / 1000) for x, y in per_mille(points, scale)]
    steps = [(round(width * (x / scale[0])), round(height * (y / scale[1]))) for x, y in points]
    return [(float(min(x, width - 1)), float(min(y, height - 1))) for x, y in steps]


FORMATS = pytest.mark.parametrize("point_format", ["markup", "plain"])


@FORMATS
@given(POINTS, SIZES, LABELS, st.sampled_from(["pointing", "point_count"]))
def test_points_in_a_picture_come_back_to_the_step_of_the_grid(point_format, shares, size, label, style):
    message = {"style": style, "label": label, "points": pixels(shares, size)}
    found = read_points(answer(message, size, point_format), size)
    expected = written(message["points"], size, size, point_format)
    assert [(point.x, point.y) for point in found] == (expected if point_format == "plain" else sorted(expected))
    assert [point.object_id for point in found] == [*range(1, len(shares) + 1)]
    assert {point.frame for point in found} == {1.0}


@FORMATS
@given(POINTS, SIZES, LABELS, st.sampled_from(STYLES))
def test_a_count_comes_back_whatever_the_style_says_it_in(point_format, shares, size, label, style):
    message = {"style": style, "label": label, "points": pixels(shares, size), "count": len(shares)}
    assert read_count(answer(message, size, point_format)) == len(shares)


@FORMATS
@given(st.integers(0, 10**9))
def test_a_count_without_points_comes_back(point_format, count):
    assert read_count(answer({"style": "count", "label": "dogs", "count": count}, (640, 480), point_format)) == count


@pytest.mark.parametrize("style", ["pointing", "point_count"])
@FORMATS
def test_nothing_to_point_at_comes_back_as_nothing(style, point_format):
    text = answer({"style": style, "label": "dogs", "points": []}, (640, 480), point_format)
    assert read_points(text, (640, 480)) == []
    assert read_count(text) == 0


@given(st.lists(POINTS, min_size=1, max_size=4), st.data())
def test_points_of_several_pictures_come_back_in_the_pixels_of_each(groups, data):
    sizes = [data.draw(SIZES) for _ in groups]
    numbers = [*range(1, len(groups) + 1)]
    marked = multi_image_points(numbers, groups, 1, "dogs", "point_count")
    plain = "\n".join(
        plain_points(group, 1, size, prefix=f"Image: {number} ")
        for number, group, size in zip(numbers, groups, sizes, strict=True)
    )
    for text, point_format in ((marked, "markup"), (plain, "plain")):
        found = read_points(text, sizes)
        assert len(found) == sum(map(len, groups)) == read_count(text)
        for number, group, size in zip(numbers, groups, sizes, strict=True):
            own = [(point.x, point.y) for point in found if point.frame == number]
            assert sorted(own) == sorted(written(group, (1, 1), size, point_format))


@FORMATS
@given(st.lists(st.tuples(st.integers(0, 600), POINTS), min_size=1, max_size=4, unique_by=lambda pair: pair[0]))
def test_points_in_a_video_come_back_with_their_times(point_format, timed):
    times, groups = [time / 2 for time, _ in timed], [points for _, points in timed]
    message = {"style": "video_point_count", "label": "dogs", "timestamps": times, "points": groups, "point_scale": 1}
    text = answer(message, (640, 480), point_format)
    found = read_points(text, (640, 480))
    assert read_count(text) == len(found) == sum(map(len, groups))
    for time, group in zip(times, groups, strict=True):
        own = [(point.x, point.y) for point in found if point.frame == time]
        assert sorted(own) == sorted(written(group, (1, 1), (640, 480), point_format))


OBJECTS = st.dictionaries(st.integers(0, 5), st.tuples(SHARE, SHARE), min_size=1)


@FORMATS
@given(st.dictionaries(st.integers(0, 40), OBJECTS, min_size=1, max_size=6))
def test_tracks_come_back_by_object_and_time(point_format, frames):
    size = (640, 480)
    entries = [
        {"time": time / 2, "points": {key: {"point": point} for key, point in objects.items()}}
        for time, objects in frames.items()
    ]
    message = {"style": "video_point_track_per_frame", "label": "dogs", "sampling_fps": 2, "points": entries}
    text = answer({**message, "width": 1, "height": 1}, size, point_format)
    found = read_tracks(text, size)
    # Numbers are given by first appearance, so that an object's own is not known; its times and places are.
    expected = [
        {
            time / 2: written([frames[time][key]], (1, 1), size, point_format)[0]
            for time in sorted(frames)
            if key in frames[time]
        }
        for key in {key for objects in frames.values() for key in objects}
    ]
    assert [*found] == [*range(1, len(expected) + 1)]
    assert all([*track] == sorted(track) for track in found.values())
    assert sorted(map(str, found.values())) == sorted(map(str, expected))


def test_a_known_track():
    """Molmo2 §2.8."""
    text = '<tracks coords="0.0 1 031 062 2 781 021;1.0 1 062 062;2.0 1 094 062 2 469 021 3 002 002">the dog</tracks>'
    assert read_tracks(text, (1000, 1000)) == {
        1: {0.0: (31, 62), 1.0: (62, 62), 2.0: (94, 62)},
        2: {0.0: (781, 21), 2.0: (469, 21)},
        3: {2.0: (2, 2)},
    }
    assert read_count("There are 3 " + text) == 3


def test_what_the_formatter_says_where_there_is_no_track_is_no_point():
    empty = {"style": "video_point_track_per_frame", "label": "dogs", "sampling_fps": 2, "width": 9, "height": 9}
    assert read_tracks(answer({**empty, "points": []}, (9, 9)), (9, 9)) == {}
    hidden = [{"time": 0.25, "points": {1: {"point": (1, 1)}}}]
    assert read_tracks(answer({**empty, "points": hidden}, (9, 9)), (9, 9)) == {}


def test_points_are_wanted_in_the_pixels_of_a_mask():
    marked = image_points([(25, 50)], 100, "dog")
    assert [(p.x, p.y) for p in read_points(marked, (640, 480), (160, 120))] == [(40, 60)]
    assert [(p.x, p.y) for p in read_points("Point: x=160 y=240", (640, 480), (160, 120))] == [(40, 60)]
    assert [(p.x, p.y) for p in read_points("Point: x=160 y=240", (640, 480), (100, 100))] == [(25, 50)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Point: x=640 y=480", [(640, 480)]),
        ("Point: x=641 y=3", []),
        ("Point: x=-1 y=3", []),
        ("Point: x=5", []),
        ("Point: x=5 y=", []),
        ("point: X=5, Y=7.", [(5, 7)]),
        ("Sure! Point: x = 12.5 y = 7.25, I think.", [(12.5, 7.25)]),
        ("Image: 3 Point: x=5 y=7", [(5, 7)]),
        ("Point: x=1 y=2 Point: x=3 y=4", [(1, 2), (3, 4)]),
        ("Object: 1 Point: x=1 y=2\nObject: 1 Point: x=3 y=4", [(1, 2)]),
        ("Time: 1.0 Object: 1 Point: x=1 y=2\nTime: 1.5 Object: 1 Point: x=3 y=4", [(1, 2), (3, 4)]),
        (f"Point: x={'9' * 5000} y=3", []),
        (f"Time: {'9' * 5000} Object: {'9' * 5000} Point: x=1 y=3", [(1, 3)]),
    ],
)
def test_plain_lines_are_read_as_models_vary_them(text, expected):
    assert [(point.x, point.y) for point in read_points(text, (640, 480))] == expected


def test_a_time_that_is_no_number_any_more_is_passed_over():
    (point,) = read_points(f"Time: {'9' * 400} Point: x=1 y=3", (640, 480))
    assert point.frame == 1


def test_a_picture_that_there_is_not_has_no_points():
    assert [p.frame for p in read_points("Image: 1 Point: x=1 y=1 Image: 3 Point: x=1 y=1", [(9, 9), (9, 9)])] == [1]
    assert read_points('<points coords="0 1 500 500;1.5 2 500 500">dogs</points>', [(9, 9), (9, 9)]) == []


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (5,), 5, [(5, 5), (1, 0)], None, ("a", "b")])
def test_a_size_that_is_none_is_the_callers_fault(size):
    with pytest.raises(ConfigError, match="image_size is"):
        read_points("Point: x=1 y=1", size)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("There are 3 dogs in the picture.", 3),
        ("There is one dog.", 1),
        ("there are exactly twenty-one birds", 21),
        ("There are none.", 0),
        ("There are no dogs in the image.", 0),
        ("I see no dogs.", 0),
        ("None", 0),
        ("Zero.", 0),
        ("Seven", 7),
        (" 12 \n", 12),
        ("1,204", 1204),
        ("Count: 7", 7),
        ("Sure.\ncount: seven\n", 7),
        ("Counting the total of 9 shows a total of 3.", 3),
        ("The answer is 4.", 4),
        ("I can see four dogs, so 4.", 4),
        ("Point: x=1 y=2\nPoint: x=3 y=4", 2),
        ('<points coords="1 1 100 100 2 200 200">the 7 dwarfs</points>', 2),
        ('There are 2 <points coords="1 1 100 100 2 200 200">Count: 9</points>.', 2),
        # what says nothing, or more than one thing
        ("", None),
        ("I cannot tell.", None),
        ("Between 3 and 5.", None),
        ("There are 3.5 dogs", None),
        ("It is 12:30.", None),
        ("50%", None),
        ("minus -3", None),
        ("No tracks available.", None),
        ("someone", None),
    ],
)
def test_a_count_is_what_the_text_says(text, count):
    assert read_count(text) == count


PIECES = st.sampled_from(
    [
        *("<points", "<tracks", ' coords="', '">', "</points>", "1 1 100 100", ";", "Point: x=", " y=", "Count: "),
        *("There are ", "total of ", "none", "seven", "9" * 5000, "1,", ".", "-", " ", "\n"),
        *("Image: ", "Time: ", "Object: ", "٣", "²", "\x00"),
    ]
)


@given(st.one_of(st.text(), st.lists(PIECES | st.text(max_size=3), max_size=30).map("".join)))
@example(f'<points coords="{"9" * 5000} 1 100 100">')
@example(f'<points coords="1 {"9" * 5000} 100 100">')
def test_no_text_is_a_fault(text):
    for size in [(640, 480), [(640, 480), (3, 4)]]:
        for point in read_points(text, size):
            assert 0 <= point.x <= 640
            assert 0 <= point.y <= 480
            assert np.isfinite(point.frame)
        read_tracks(text, size)
    count = read_count(text)
    assert count is None or count >= 0
    parse_points(text)


def test_every_known_answer_of_the_published_pipeline_is_read_back(golden):
    cases = json.loads((golden / "points.json").read_text(encoding="utf-8"))
    for case in cases:
        found = read_points(case["text"], (1000, 1000))
        entries = [group.split() for tag in re.findall(r'coords="([^"]*)"', case["text"]) for group in tag.split(";")]
        assert [(point.x, point.y) for point in found] == [
            (int(x), int(y)) for entry in entries for x, y in zip(entry[2::3], entry[3::3], strict=True)
        ]
        if case["kind"] in ("multi_image", "video") or case.get("mode"):
            groups = [case["points"]] if case["kind"] == "image" else case["points"]
            assert read_count(case["text"]) == sum(map(len, groups))
