import pytest
from hypothesis import given
from hypothesis import strategies as st

from grain_molmo.errors import ExampleError, MediaError
from grain_molmo.text.subtitles import parse_subtitle_file, shift_cues, subtitle_text

FIRST, SECOND = "This is the first subtitle.", "This is the second subtitle."
TWO_LINES = "This is the second subtitle. Second subtitle with second line."
TYPICAL = [(0.0, 1.234, FIRST), (2.345, 3.456, TWO_LINES), (7204.567, 7208.901, "This is the third subtitle.")]
LATE = (958717.433, 958718.276, "Cue text two")


@pytest.mark.parametrize(
    ("name", "cues"),
    [
        ("subrip/typical", TYPICAL),
        ("subrip/typical_with_byte_order_mark", TYPICAL),
        ("subrip/typical_utf16le", TYPICAL),
        ("subrip/typical_missing_sequence", TYPICAL),
        ("subrip/typical_unexpected_end", TYPICAL[:2]),
        ("subrip/typical_bad_timestamps", TYPICAL[:1]),
        ("subrip/typical_negative_timestamps", TYPICAL[2:]),
        ("subrip/typical_no_hours_and_millis", [TYPICAL[0], (2.0, 3.0, TWO_LINES), TYPICAL[2]]),
        ("webvtt/typical", [(0.0, 1.234, FIRST), (2.345, 3.456, SECOND)]),
        ("webvtt/with_bom", [(0.0, 1.234, FIRST), (2.345, 3.456, SECOND)]),
        ("webvtt/typical_with_bad_timestamps", [(0.0, 1.234, FIRST), (2.345, 3.456, SECOND)]),
        ("webvtt/with_x-timestamp-map_header", [(958715.679, 958717.305, "Cue text one"), LATE]),
    ],
)
def test_the_cues_of_odd_files(media, name, cues):
    parsed = parse_subtitle_file((media / "annotations/androidx__media" / name).read_bytes())
    assert [text for *_, text in parsed] == [text for *_, text in cues]
    assert [times for *times, _ in parsed] == [pytest.approx(times) for *times, _ in cues]


@pytest.mark.parametrize(
    ("name", "number", "last"),
    [
        ("androidx__media/subrip/typical_with_tags", 14, (24.567, 24.901, "This is a line.")),
        ("androidx__media/webvtt/with_css_styles", 4, (25.0, 28.0, "You are an idiot You don't have the guts")),
        ("androidx__media/webvtt/with_positioning", 8, (14.0, 15.0, "This is the eighth subtitle.")),
        (
            "androidx__media/webvtt/with_overlapping_timestamps",
            4,
            (5.0, 7.0, "Appears directly above the previous cue, then replaces it after 1 second."),
        ),
        ("glut23__webvtt-py/captions_with_bom.vtt", 4, (16.32, 21.58, "Caption text #4")),
        ("glut23__webvtt-py/cue_tags.vtt", 3, (20.5, 21.5, "That's amore")),
        ("glut23__webvtt-py/invalid.vtt", 7, (27.28, 30.28, "Caption text #7")),
        ("glut23__webvtt-py/invalid_timeframe.vtt", 6, (27.28, 30.28, "Caption text #7")),
        ("glut23__webvtt-py/metadata_headers_multiline.vtt", 2, (7.0, 11.89, "Caption text #2")),
        ("glut23__webvtt-py/missing_caption_text.vtt", 4, (21.58, 23.88, "Caption text #5")),
        ("glut23__webvtt-py/missing_timeframe.srt", 4, (21.58, 23.88, "Caption text #5")),
        ("glut23__webvtt-py/sample.srt", 5, (21.58, 23.88, "Caption text #5")),
        ("glut23__webvtt-py/sample.vtt", 16, (61.35, 64.3, "Caption text #16")),
        ("glut23__webvtt-py/styles.vtt", 1, (0.0, 10.0, "- Hello world.")),
        ("glut23__webvtt-py/using_identifiers.vtt", 6, (23.88, 27.28, "Caption text #6")),
        ("glut23__webvtt-py/youtube_dl.vtt", 4, (305.069, 305.4, "this will happen is I'm telling")),
        ("mdn__interactive-examples/friday.vtt", 5, (4.3, 6.0, "Somebody must've stolen the crown jewels")),
    ],
)
def test_files_of_other_projects_give_all_their_cues(media, name, number, last):
    cues = parse_subtitle_file((media / "annotations" / name).read_bytes())
    assert len(cues) == number
    assert cues[-1] == (pytest.approx(last[0]), pytest.approx(last[1]), last[2])
    assert not [text for *_, text in cues if "</" in text or "-->" in text or "{\\" in text]


def test_a_film_reads_alike_from_either_format(media):
    srt, vtt = (
        parse_subtitle_file((media / f"annotations/pbs__pycaption/example.{e}").read_bytes()) for e in ("srt", "vtt")
    )
    assert len(srt) == len(vtt) == 1847
    assert [text for *_, text in srt] == [text for *_, text in vtt]
    film = parse_subtitle_file((media / "annotations/sannies__mp4parser/subs.srt").read_bytes())
    assert film[4][2] == "Roman wants us to be there at 9am."
    assert len(film) == 120


@pytest.mark.parametrize("name", ["androidx__media/subrip/empty", "glut23__webvtt-py/empty.vtt"])
def test_an_empty_file_is_an_error(media, name):
    with pytest.raises(MediaError, match="empty: "):
        parse_subtitle_file((media / "annotations" / name).read_bytes())


def test_a_webvtt_file_may_have_no_cues(media):
    assert parse_subtitle_file((media / "annotations/glut23__webvtt-py/no_captions.vtt").read_bytes()) == []


@pytest.mark.parametrize(
    "data",
    [b"<html>not found</html>", bytes(range(256)), b"\x00\x01", b"1\n00:00:03,000 --> 00:00:01,000\nbackwards\n"],
)
def test_a_file_without_readable_cues_is_refused(data):
    with pytest.raises(MediaError, match="bad_subtitles"):
        parse_subtitle_file(data)


SRT = "1\n00:00:01,000 --> 00:00:02,000\nGrüße – ça va\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_usual_encoding_is_read(encoding, newline):
    assert parse_subtitle_file(SRT.replace("\n", newline).encode(encoding)) == [(1.0, 2.0, "Grüße – ça va")]


def test_entities_tags_and_a_missing_empty_line():
    data = b"1\n00:01,000-->00:02,000\n&lt;A&gt; &amp;amp; <b>B</b> 1 < 2&nbsp;\n2\n00:02,000 --> 00:03,000\nnext"
    assert parse_subtitle_file(data) == [(1.0, 2.0, "<A> &amp; B 1 < 2"), (2.0, 3.0, "next")]


def test_cues_come_by_time_and_keep_their_overlap():
    data = b"00:05.000 --> 00:06.000\nb\n\n00:01.000 --> 00:09.000\na\n"
    assert parse_subtitle_file(data) == [(1.0, 9.0, "a"), (5.0, 6.0, "b")]


@given(st.binary(max_size=300))
def test_no_bytes_do_worse_than_a_media_error(data):
    try:
        cues = parse_subtitle_file(data)
    except MediaError:
        return
    assert all(start <= end and text for start, end, text in cues)


def test_hostile_files_take_linear_time():
    for piece in (b"<b", b"{\\", b" -->", b"\n-->", b"9:", b"a --> ", b"&lt", b" \t"):
        with pytest.raises(MediaError):
            parse_subtitle_file(b"0:00 " + piece * 100_000)


# what the model reads


def test_cues_within_a_second_of_a_frame_are_kept():
    """Molmo2 §4.5: [start, end] meets [t - 1, t + 1] for a frame's time t."""
    cues = {(0, 1): "a", (0, 0.9): "b", (4, 9): "c", (4.01, 9): "d", (11, 11): "e", (20, 21): "f"}
    assert subtitle_text(cues, [2.0, 3.0, 12.0]) == "subtitle\n0.0 - 1.0 a\n4.0 - 9.0 c\n11.0 - 11.0 e\n"


def test_the_header_stays_where_every_cue_is_filtered():
    assert subtitle_text({(50, 51): "late"}, [0.0]) == "subtitle\n"
    assert subtitle_text({(0, 1): "x"}, []) == "subtitle\n"


@pytest.mark.parametrize("nothing", [None, "", " \n", {}, [], ()])
def test_without_a_subtitle_there_is_no_text(nothing):
    assert subtitle_text(nothing, [0.0]) == ""


def test_a_text_is_taken_whole():
    assert subtitle_text("Hello.\nBye.", []) == "subtitle\nHello.\nBye."


@pytest.mark.parametrize(
    "cues",
    [
        {(0.25, 1): "Hi", (1, 2): "you"},
        [(0.25, 1, "Hi"), [1, 2, "you"]],
        [{"start": "0.25", "end": "0:01", "text": "Hi"}, {"start": 1, "end": 2, "text": "you"}, (3, 2, "backwards")],
    ],
)
def test_cues_in_every_form_read_alike(cues):
    assert subtitle_text(cues, [0.0, 2.0]) == "subtitle\n0.2 - 1.0 Hi\n1.0 - 2.0 you\n"


@pytest.mark.parametrize(
    ("subtitle", "reason"),
    [
        (3, "bad_subtitle"),
        ([3], "bad_subtitle"),
        (["text"], "bad_subtitle"),
        ({"0-1": "x"}, "bad_subtitle"),
        ({(0, 1): None}, "bad_subtitle"),
        ([{"start": 0, "end": 1}], "bad_subtitle"),
        ([{"start": 0, "text": "x"}], "bad_time"),
        ({(0, float("nan")): "x"}, "bad_time"),
        ({("noon", 1): "x"}, "bad_time"),
    ],
)
def test_what_is_no_subtitle_names_its_reason(subtitle, reason):
    with pytest.raises(ExampleError) as caught:
        subtitle_text(subtitle, [0.0])
    assert caught.value.reason == reason


def test_cues_of_a_clip_count_from_its_start():
    cues = [(0, 10, "before"), (8, 11, "a"), (12.5, 13, "b"), (14, 30, "c"), (15, 16, "after")]
    assert shift_cues(cues, 10, 15) == [(0.0, 1.0, "a"), (2.5, 3.0, "b"), (4.0, 5.0, "c")]
