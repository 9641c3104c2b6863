"""Drawn documents: what the pixels show is what the answers say."""

from dataclasses import replace

import numpy as np
import pytest

from converters.sample.charts import chart_questions, draw_chart, make_chart
from converters.sample.documents import make_document

CONFIGS = ("charts", "diagrams", "tables", "other")


def charts(kind: str, number: int = 8):
    for seed in range(number):
        chart = make_chart(np.random.default_rng(seed))
        yield replace(chart, kind=kind, width=chart.width + 300 * (kind == "pie"))


def test_bars_are_as_high_as_their_values():
    for chart in charts("bar"):
        pixels_HWC = np.asarray(draw_chart(chart))
        left, top, right, bottom = chart.plot_box
        for i, value in enumerate(chart.values):
            x = int(left + (i + 0.3) * (right - left) / len(chart.values))
            height = (pixels_HWC[:, x] == chart.colors[i]).all(-1).sum()
            assert height == pytest.approx((bottom - top) * value / chart.axis_max, abs=2)


def test_marks_of_a_line_lie_at_the_height_of_their_values():
    for chart in charts("line"):
        pixels_HWC = np.asarray(draw_chart(chart))
        left, top, right, bottom = chart.plot_box
        for i, value in enumerate(chart.values):
            x = int(left + (i + 0.5) * (right - left) / len(chart.values))
            y = bottom - (bottom - top) * value / chart.axis_max
            assert tuple(pixels_HWC[round(y), x]) == chart.colors[0]


def test_slices_of_a_pie_have_areas_in_proportion_to_their_values():
    for chart in charts("pie"):
        if len(set(chart.colors)) == 1:
            continue
        image = draw_chart(chart)
        pie_HWC = np.asarray(image)[:, : 40 + chart.height - 110]
        areas = np.array([(pie_HWC == color).all(-1).sum() for color in chart.colors[: len(chart.values)]])
        shares = np.array(chart.values) / sum(chart.values)
        np.testing.assert_allclose(areas / areas.sum(), shares, atol=0.012)


def test_answers_about_a_chart_follow_from_its_values():
    for chart in charts("bar"):
        answers = dict(chart_questions(chart))
        values = dict(zip(chart.labels, chart.values, strict=True))
        assert values[answers["Which one has the highest value?"]] == max(chart.values)
        assert values[answers["Which one has the lowest value?"]] == min(chart.values)
        assert int(answers["What is the sum of all values?"]) == sum(chart.values)
        assert max(chart.values) < chart.axis_max


@pytest.mark.parametrize("config", CONFIGS)
def test_a_document_is_a_function_of_seed_config_split_and_row(config):
    image, questions = make_document(0, config, "train", 3)
    again, same_questions = make_document(0, config, "train", 3)
    assert image.tobytes() == again.tobytes()
    assert questions == same_questions
    for other in ((1, config, "train", 3), (0, config, "validation", 3), (0, config, "train", 5)):
        assert make_document(*other)[1] != questions


@pytest.mark.parametrize("config", CONFIGS)
def test_every_document_has_questions_with_answers(config):
    for row in range(12):
        image, questions = make_document(7, config, "train", row)
        assert image.mode == "RGB"
        assert min(image.size) >= 200
        assert len(questions) >= 3
        assert all(question.endswith("?") and answer for question, answer in questions)
