"""Points that writing would move to the edge, measured as each style measures them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grain_molmo.text.outside import points_outside
from grain_molmo.text.points import per_mille

SIZE = (100, 80)
POINTING = {"style": "pointing", "label": "dot"}
SEVERAL = {"style": "multi_image_pointing", "labels": ["dot"] * 3, "point_scale": 100}
TRACK = {"style": "video_point_track_per_frame", "label": "dot", "sampling_fps": 1}


def frame(point, **entry):
    return {"time": 0, "points": {0: {"point": point, **entry}}}


@pytest.mark.parametrize(
    ("message", "places"),
    [
        ({**POINTING, "points": [(0, 0), (100, 80), (500, 40)]}, ["points[2]"]),
        ({**POINTING, "points": np.array([[50, -3], [101, 0]])}, ["points[0]", "points[1]"]),
        ({**POINTING, "points": [(500, 40)], "point_scale": 1000}, []),
        ({**POINTING, "points": [(99, 90)], "point_scale": 100}, []),
        ({**POINTING, "points": [(99, 101)], "point_scale": 100}, ["points[0]"]),
        ({**POINTING, "points": [(0.5, 0.9), (1, 1.5)], "point_scale": [1, 2]}, []),
        ({**POINTING, "points": [(300, 200)], "width": 400, "height": 300}, []),
        ({**POINTING, "points": [(100 * (1 + 1e-9), -1e-9)]}, []),
        ({"style": "count", "count": 1, "label": "dot", "points": [(500, 40)]}, []),
        ({"points": [(500, 40)], "question": "Where?", "answer": "There."}, []),
        ({"style": "video_point", "points": [[(99, 100)], [(99, 101)]], "width": 640, "height": 480}, ["points[1][0]"]),
        ({**SEVERAL, "points": [[(99, 90)], None, [(99, 101)]]}, ["points[2][0]"]),
        ({**TRACK, "points": [frame((99, 79)), frame((640, 20))]}, ["points[1].points[0].point"]),
        ({**TRACK, "points": [frame((640, 20), occluded=True)]}, []),
        ({**TRACK, "points": [frame((640, 20))], "width": 640, "height": 480}, []),
        ({**POINTING, "points": "nowhere"}, []),
    ],
)
def test_points_are_outside_of_what_their_style_measures_them_against(message, places):
    assert [one.place for one in points_outside(message, [SIZE])] == places


def test_pixels_of_a_picture_whose_size_is_not_known_wait_for_it_and_percent_do_not():
    pixels = {**POINTING, "points": [(500, 40)]}
    assert list(points_outside(pixels, [])) == []
    (one,) = points_outside({**pixels, "point_scale": 100}, [])
    assert str(one) == "(500, 40) is outside of 100 x 100"


@given(st.lists(st.tuples(st.floats(-200, 200), st.floats(-200, 200)), min_size=1, max_size=5))
def test_no_point_inside_is_moved_by_writing_it(points):
    outside = {one.place for one in points_outside({**POINTING, "points": points}, [SIZE])}
    for i, (x, y) in enumerate(points):
        if f"points[{i}]" not in outside:
            ((column, row),) = per_mille([(x, y)], SIZE)
            assert abs(column / 10 - x) <= 0.051
            assert abs(row * 80 / 1000 - y) <= 0.041
