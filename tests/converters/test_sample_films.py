"""Films of shapes: every frame shows what the film says, and everything that is written or said about it is true."""

import itertools

import numpy as np
import pytest

from converters.sample.film_text import (
    film_questions,
    frame_caption,
    merged_caption,
    point_target,
    points_on_grid,
    subtitle_questions,
)
from converters.sample.films import WALL_COLOR, Film, draw, film_points, make_film
from converters.sample.scenes import SHADES
from converters.sample.text import counted, number_word
from converters.sample.video_rows import POINT_CONFIGS
from converters.sample.videos import VideoPool, encodable

KINDS = {"films": 24, "crowds": 2, "long": 2, "tracks": 8}


@pytest.fixture(scope="module")
def films() -> list[Film]:
    return [make_film(4, kind, i) for kind, number in KINDS.items() for i in range(number)]


def times(film: Film) -> list[float]:
    return np.linspace(0, film.clip.seconds, 7)[:-1].tolist()


def test_at_each_point_the_frame_has_the_color_of_the_shape_or_of_the_wall(films):
    hidden = 0
    for film in films:
        for time_s in times(film):
            frame_HW3 = draw(film, time_s)
            for point in film_points(film, time_s):
                color = WALL_COLOR if point.hidden else SHADES[film.actors[point.actor].color]
                assert frame_HW3[int(point.y), int(point.x)].tolist() == list(color)
                hidden += point.hidden
    assert hidden > 10


def test_an_actor_that_is_not_there_leaves_no_trace(films):
    late = [(film, actor) for film in films for actor in film.actors if actor.appears_s > 0]
    assert len(late) > 10
    for film, actor in late:
        before, after = actor.appears_s - 1e-3, actor.appears_s
        assert len(film_points(film, after)) > len(film_points(film, before))
        leavers = {other.leaves_s for other in film.actors}
        if before not in leavers and all(other.label != actor.label for other in film.actors if other is not actor):
            assert actor.label not in frame_caption(film, before)


def test_films_are_of_many_sizes_lengths_and_kinds_of_file(films):
    clips = [film.clip for film in films]
    assert {clip.codec for clip in clips} == {"h264", "hevc", "vp9", "av1", "mpeg4"}
    assert {clip.container for clip in clips} == {"mp4", "mkv", "webm"}
    assert {clip.rotation for clip in clips} == {0, 90, 270}
    assert any(clip.height > clip.width for clip in clips)
    assert any(clip.start_s > 0 for clip in clips)
    assert any(clip.frame_times for clip in clips)
    assert any(clip.fps.denominator == 1001 for clip in clips)
    assert all(2 <= clip.seconds <= 20.1 or 64 < clip.seconds < 95 for clip in clips)
    assert all(min(clip.width, clip.height) >= 120 and max(clip.width, clip.height) <= 640 for clip in clips)


def test_the_same_film_comes_of_the_same_seed_and_index_alone():
    assert make_film(1, "films", 3) == make_film(1, "films", 3)
    assert make_film(1, "films", 3) != make_film(2, "films", 3)
    with pytest.raises(ValueError, match="opera"):
        make_film(1, "opera", 3)


def test_a_film_is_encoded_even_where_its_codec_is_missing(monkeypatch):
    clip = next(clip for i in range(12) if (clip := make_film(0, "films", i).clip).container == "webm")
    monkeypatch.setattr("converters.sample.videos.can_encode", lambda codec: codec == "mpeg4")
    assert (encodable(clip).codec, encodable(clip).container) == ("mpeg4", "mp4")


def test_what_is_said_comes_in_order_within_the_film_and_names_each_label_when_it_is_there(films):
    for film in films:
        begins_ends = [time_s for start, end, _ in film.cues for time_s in (start, end)]
        assert begins_ends == sorted(begins_ends)
        assert begins_ends[0] >= 0
        assert begins_ends[-1] <= film.clip.seconds + 0.01
        said = " ".join(text for _, _, text in film.cues)
        assert all(f"This is {name}, the {label}." in said for label, name in film.names.items())
        assert len(set(film.names.values())) == len(film.names)


def test_captions_name_every_shape_and_count_it(films):
    for film in films:
        text = merged_caption(film, np.random.default_rng(0))
        assert all(counted(label, len(actors)) in text for label, actors in film.labels.items())
        if film.wall is None:
            assert "wall" not in text


def test_questions_have_one_right_answer_and_wrong_ones_that_differ_from_it(films):
    for film in films:
        rng = np.random.default_rng(0)
        pairs = film_questions(film, rng)
        assert len(pairs) >= 5
        assert len(subtitle_questions(film, rng)) >= 5
        for question in [*pairs, *subtitle_questions(film, rng)]:
            assert question.wrong
            assert question.answer not in question.wrong
            assert len(set(question.wrong)) == len(question.wrong)
        answers = {question.question: question.answer for question in pairs}
        late = sum(actor.appears_s > 0 for actor in film.actors)
        assert answers["How many shapes appear only after the video has started?"] == number_word(late).capitalize()


def test_targets_are_pointed_at_once_each_where_they_can_be_seen_on_the_grid(films):
    seen = 0
    for film, category in itertools.product(films[:14], POINT_CONFIGS):
        target = point_target(film, category, np.random.default_rng(1))
        points = points_on_grid(film, target.actors, 0, film.clip.seconds)
        if points is None:
            continue
        assert sum(map(len, points.values())) == len(target.actors)
        for time_s, there in points.items():
            assert time_s * 2 == int(time_s * 2)
            visible = {(point.x, point.y) for point in film_points(film, time_s) if not point.hidden}
            assert set(there) <= visible
            seen += len(there)
    assert seen > 100


def test_a_film_is_written_once_and_its_broken_copy_is_half_of_it(tmp_path):
    pool = VideoPool(0, tmp_path)
    video_id = pool.youtube("tracks", 0)
    assert pool.youtube("tracks", 0) == video_id
    pool.break_copy(video_id, "elevenchars")
    paths = {path.stem: path for path in tmp_path.rglob("*.mp4")}
    assert set(paths) == {video_id, "elevenchars"}
    assert paths["elevenchars"].parent.name == "elevenchars"
    assert paths[video_id].read_bytes().startswith(paths["elevenchars"].read_bytes())
    assert paths["elevenchars"].stat().st_size == paths[video_id].stat().st_size // 2
