from string import Formatter

import pytest

from grain_molmo.text import templates_captions as captions
from grain_molmo.text import templates_choice as choice
from grain_molmo.text import templates_pointing as pointing
from grain_molmo.text.prompts import CAPTION_TEMPLATES
from grain_molmo.text.templates_captions import for_video
from grain_molmo.text.video_answers import TEMPLATES as VIDEO_POINT_TEMPLATES

CLIP, LABEL = {"start_time", "end_time"}, {"label"}
SEVERAL = {"selected_label", "selected_images"}
WITH_OPTIONS = {"question", "options"}

TABLE = [
    (captions.LONG_CAPTION, 23, set()),
    (captions.SHORT_CAPTION, 11, set()),
    (captions.VIDEO_TRANSCRIPT, 5, set()),
    (captions.VIDEO_MOTION_CAPTION, 10, set()),
    (captions.VIDEO_OBJECT_CAPTION, 10, {"object"}),
    (captions.FRAME_CAPTION, 13, {"timestamp"}),
    (captions.FRAME_CAPTION_SECONDS, 13, {"timestamp"}),
    (captions.CLIP_CAPTION, 21, CLIP),
    (captions.CLIP_CAPTION_SECONDS, 21, CLIP),
    (captions.CLIP_TRANSCRIPT, 5, CLIP),
    (captions.CLIP_TRANSCRIPT_SECONDS, 5, CLIP),
    (captions.VIDEO_SHORT_ANSWER, 15, {"question"}),
    (pointing.POINTING, 43, LABEL),
    (pointing.POINT_COUNT, 60, LABEL),
    (pointing.COUNT, 6, LABEL),
    (pointing.COUNT_THEN_POINT, 6, LABEL),
    (pointing.TRACK, 10, {"label", "fps"}),
    (pointing.TRACK_DEFAULT_FPS, 8, LABEL),
    (pointing.GROUND, 7, LABEL),
    (pointing.TRACK_POINT, 12, {"input_points", "fps"}),
    (pointing.MULTI_IMAGE_POINTING, 11, SEVERAL),
    (pointing.MULTI_IMAGE_COUNTING, 9, SEVERAL),
    (pointing.MULTI_IMAGE_POINT_THEN_COUNT, 14, SEVERAL),
    (pointing.MULTI_IMAGE_COUNT_THEN_POINT, 9, SEVERAL),
    (choice.ANSWER_WITH_NAME, 16, {"kind"}),
    (choice.ANSWER_WITH_NAME_AND_TEXT, 16, {"kind"}),
    (choice.ANSWER_WITH_TEXT, 14, set()),
    (choice.LAYOUTS, 15, {*WITH_OPTIONS, "instruction"}),
    (choice.DIRECT_WITH_NAME, 9, {*WITH_OPTIONS, "kind"}),
    (choice.DIRECT, 19, WITH_OPTIONS),
]


@pytest.mark.parametrize(("templates", "number", "keywords"), TABLE)
def test_lists_have_their_length_and_each_template_the_keywords_of_its_list(templates, number, keywords):
    """Molmo2 §2.3, §2.5."""
    assert len(templates) == len(set(templates)) == number
    for template in templates:
        found = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
        assert sorted(found) == sorted(keywords), template


@pytest.mark.parametrize(
    "templates",
    [
        CAPTION_TEMPLATES["video_long_caption"],
        CAPTION_TEMPLATES["video_short_caption"],
        *VIDEO_POINT_TEMPLATES.values(),
    ],
)
def test_video_templates_speak_of_videos(templates):
    assert any("video" in template for template in templates)
    for template in templates:
        assert not {"image", "picture", "photo", "an video", "photos"} & set(template.replace(".", "").split()), (
            template
        )
        assert " an video" not in template


def test_a_template_for_videos_is_the_one_for_images_with_another_word():
    assert for_video(("Show me {label} in this photo.", "x")) == ("Show me {label} in this video.", "x")


def test_seconds_follow_the_last_time():
    assert all("{end_time} seconds" in template for template in captions.CLIP_CAPTION_SECONDS)
    assert all(t.index("{start_time}") < t.index("{end_time}") for t in captions.CLIP_CAPTION_SECONDS)


def test_there_are_4_common_and_19_rare_markers_and_4_sets_of_names():
    assert len(set(choice.COMMON_MARKERS)) == 4
    assert len(set(choice.RARE_MARKERS)) == 19
    assert not set(choice.COMMON_MARKERS) & set(choice.RARE_MARKERS)
    assert [len(set(names)) for _, names in choice.NAME_SETS] == [26, 26, 20, 10]
    assert len(set(choice.BULLETS)) == 10
