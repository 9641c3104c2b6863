"""Captions of videos and questions about them: Molmo2-Cap, -VideoCapQA, -VideoSubtitleQA, -AskModelAnything.

Facts of the hub, filters and grouping: Molmo2 datasets §1B. The simpler rows of a local file are understood, too:
`video_path` in the place of `video_id`, `question` and `answer` without wrong answers, `subtitles`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from converters import schema
from converters.rows import Row
from converters.schema import NUMBER, SUBTITLE, TEXT, TEXTS
from converters.spec import Annotation, FromVideo, MediaSource, Place, SetSpec, column
from grain_molmo.errors import MediaError, RowError
from grain_molmo.text.subtitles import parse_subtitle_file

MIN_CAPTION_SCORE = 3
MAX_QUESTIONS = 16  # of one record: branches of one message tree. The published sets have about five a video
CAPTIONS = ("merged_caption", "video_caption", "video_frame_merged_caption")

YOUTUBE_LAYOUTS = tuple(f"youtube-cc/youtube-cc-{part}/{{id}}/*" for part in ("exist", "kw", "temporal"))
ANYWHERE = ("{id}", "{id}/*", "**/{id}", "**/{id}/*")
"""A flat folder, a folder of folders, then whatever has that name: ids of web videos do not clash."""

_CAPTION_LAYOUTS = (
    *YOUTUBE_LAYOUTS,
    "youtube-cc/*/{id}/*",
    *("youtube_temporal/{id}", "intern/{id}", "kw_youtube/{id}", "kw_youtube/batch_1/{id}"),
    *("**/v_{id}", "**/ytb_{id}"),
    *ANYWHERE,
)
_KOALA_LAYOUTS = ("koala/batch_1/{id}", "koala/{id}")

# Whole videos are large: so few rows a shard that a stop costs minutes, not hours.
VIDEO_ROWS_PER_SHARD = 1024

which_video = column("video_id", "video_path")


def video_id(row: Row) -> str:
    """What the row calls its video. Raises RowError."""
    return schema.text(row, "video_path" if row.get("video_id") is None else "video_id")


def find_video(row: Row, place: Place, layouts: Sequence[str], *, name: str | None = None) -> Sequence[MediaSource]:
    """The row's video: the file of `video_path`, else what the folder of videos has for its id.

    Args:
        row: of a set of videos.
        place: where it stands.
        layouts: see `VideoFolder`.
        name: the id, where the row has it elsewhere than in `video_id`.

    Raises:
        RowError: "missing_video".
    """
    path = row.get("video_path")
    if isinstance(path, str) and path.strip():
        found = _beside(path, place)
    else:
        name = schema.text(row, "video_id") if name is None else name
        found = place.videos.find(name, layouts) if place.videos else None
    if found is None:
        where = f"under {place.videos.root}" if place.videos else "and there is no --video-dir to look in"
        raise RowError(
            "missing_video", f"{path or name!r} is not {where}" if place.videos else f"{path or name!r} {where}"
        )
    return (FromVideo(found),)


def _beside(path: str, place: Place) -> Path | None:
    """The file of a path: as it is or beside the rows if they are local, else in the folder of videos."""
    folders = [place.folder] if place.folder else []
    # Rows of the hub name no files of this machine but those of the folder of videos.
    if place.videos and not PurePosixPath(path).is_absolute() and ".." not in PurePosixPath(path).parts:
        folders.append(place.videos.root)
    try:
        return next((folder / path for folder in folders if (folder / path).is_file()), None)
    except (OSError, ValueError):  # a name that no file can have
        return None


def _youtube_video(row: Row, place: Place) -> Sequence[MediaSource]:
    return find_video(row, place, (*YOUTUBE_LAYOUTS, *ANYWHERE))


def _captioned_video(row: Row, place: Place) -> Sequence[MediaSource]:
    try:
        return find_video(row, place, _CAPTION_LAYOUTS)
    except RowError:
        name = row.get("video_id")
        koala = place.videos.koala_name(name) if place.videos and isinstance(name, str) else None
        if koala is None:
            raise
        return find_video(row, place, _KOALA_LAYOUTS, name=koala)


def _parse_caption(row: Row, place: Place) -> Annotation:
    score = schema.number(row, "annotation_score") if row.get("annotation_score") is not None else None
    if score is not None and score < MIN_CAPTION_SCORE:
        raise RowError("low_score", f"annotation_score is {score:g}, below {MIN_CAPTION_SCORE}")
    # `caption` is the one column of simpler rows, and as long as the published long captions.
    given = {**row, "video_frame_merged_caption": column("video_frame_merged_caption", "caption")(row)}
    captions = {}
    for kind in CAPTIONS:
        value = given.get(kind)
        if value is not None and not isinstance(value, str):
            schema.text(given, kind)  # raises
        if value and value.strip():
            captions[kind] = value.strip()
    if not captions:
        raise RowError("empty_caption", f"none of {', '.join(CAPTIONS)} has text")
    return {"video_id": video_id(row), "captions": captions, "score": score}


def _parse_choice(row: Row, place: Place) -> Annotation:
    """A question with wrong answers (`NegativeAnswers`), or in simpler rows (`question`, `answer`) without."""
    if row.get("Question") is None and row.get("question") is not None and row.get("NegativeAnswers") is None:
        return _parse_open(row, place)
    question = schema.text(row, "Question").strip()
    answer = schema.text(row, "Answer").strip()
    wrong = schema.texts(row, "NegativeAnswers") if row.get("NegativeAnswers") is not None else []
    # A wrong answer that is the right one, or stands there twice, would make the choice ambiguous.
    negatives = [text for text in dict.fromkeys(text.strip() for text in wrong) if text != answer]
    if not negatives:
        raise RowError("no_negative_answers", f"{question[:80]!r} has nothing to choose from but the answer")
    category = row.get("Category")
    entry = {"question": question, "answer": answer, "negatives": negatives}
    entry["category"] = category if isinstance(category, str) else None
    return {"video_id": video_id(row), "subtitle": read_subtitle(row, place), "questions": [entry]}


def _parse_open(row: Row, place: Place) -> Annotation:
    entry = {"question": schema.text(row, "question").strip(), "answer": schema.text(row, "answer").strip()}
    return {"video_id": video_id(row), "subtitle": read_subtitle(row, place), "questions": [entry]}


def _parse_about_subtitle(row: Row, place: Place) -> Annotation:
    piece = _parse_choice(row, place)
    if not piece["subtitle"]:
        raise RowError("missing_subtitle", "a question about subtitles without any cannot be answered")
    return piece


def read_subtitle(row: Row, place: Place) -> str | list[list[Any]] | None:
    """[[start_s, end_s, text], ...] in the row's order; a text as it is; None if there are no subtitles.

    `subtitle` or `subtitles` holds such a list of {start, end, text}, a text, or the path of an .srt or .vtt file
    beside the rows. Raises RowError: `bad_subtitles`, `missing_subtitle`, `wrong_type`.
    """
    name = "subtitles" if row.get("subtitle") is None else "subtitle"
    value = row.get(name)
    if value is None or value == []:
        return None
    if isinstance(value, str):
        is_file = value.strip().lower().endswith((".srt", ".vtt")) and "\n" not in value.strip()
        return _subtitle_file(value.strip(), place) if is_file else value.strip() or None
    cues = []
    for start, end, text in schema.entries(row, name, "start", "end", "text"):
        times = schema.numbers({name: [start, end]}, name)
        if not isinstance(text, str) or not 0 <= times[0] <= times[1]:
            raise RowError("bad_subtitles", f"{text!r} from {start} to {end} s")
        if text.strip():
            cues.append([*times, text.strip()])
    return cues or None


def _subtitle_file(path: str, place: Place) -> list[list[Any]] | None:
    if place.folder is None:
        raise RowError("missing_subtitle", f"{path}: rows of the hub cannot name files")
    try:
        data = (place.folder / path).read_bytes()
        return [list(cue) for cue in parse_subtitle_file(data)] or None
    except (OSError, ValueError) as error:
        raise RowError("missing_subtitle", f"{path}: {error}") from error
    except MediaError as error:
        raise RowError("bad_subtitles", f"{path}: {error.detail}") from error


def _questions_of_a_video(pieces: list[Annotation]) -> list[Annotation]:
    """All questions about a video, in parts of at most 16; the subtitles are the first row's that has any."""
    subtitle = next((piece["subtitle"] for piece in pieces if piece["subtitle"]), None)
    questions = [entry for piece in pieces for entry in piece["questions"]]
    whole = {"video_id": pieces[0]["video_id"], **({"subtitle": subtitle} if subtitle else {})}
    parts = range(0, len(questions), MAX_QUESTIONS)
    return [{**whole, "questions": questions[start : start + MAX_QUESTIONS]} for start in parts]


def _question_set(name: str, split: str, parse: Callable[[Row, Place], Annotation], **fields: Any) -> SetSpec:
    return SetSpec(
        name=name,
        is_video=True,
        splits=(split,),
        store_splits={split: "train"},
        optional={
            **dict.fromkeys(("video_id", "video_path", "Question", "Answer", "Category", "question", "answer"), TEXT),
            "NegativeAnswers": TEXTS,
            **dict.fromkeys(("subtitle", "subtitles"), SUBTITLE),
        },
        placed_by=("video_id", "video_path"),
        identity=which_video,
        grouped=True,
        rows_per_shard=VIDEO_ROWS_PER_SHARD,
        parse=parse,
        combine=_questions_of_a_video,
        media=_youtube_video,
        **fields,
    )


VIDEO_SETS = (
    SetSpec(
        name="molmo2_cap",
        hub="allenai/Molmo2-Cap",
        aliases=("molmo2_captions",),
        is_video=True,
        splits=("train", "val"),
        store_splits={"val": "validation"},
        optional={
            **dict.fromkeys(("video_id", "video_path", *CAPTIONS, "caption"), TEXT),
            "annotation_score": NUMBER,
        },
        either=(("video_id", "video_path"), (*CAPTIONS, "caption")),
        placed_by=("video_id", "video_path"),
        identity=which_video,
        rows_per_shard=VIDEO_ROWS_PER_SHARD // 4,
        parse=_parse_caption,
        media=_captioned_video,
    ),
    _question_set(
        "molmo2_videocapqa",
        "CapQA",
        _parse_choice,
        hub="allenai/Molmo2-VideoCapQA",
        aliases=("molmo2_video_cap_qa", "molmo2_video_capqa", "molmo2_capqa", "molmo2_syn_captions_qa"),
        either=(("video_id", "video_path"), ("Question", "question"), ("Answer", "answer")),
    ),
    _question_set(
        "molmo2_videosubtitleqa",
        "SubtitleQA",
        _parse_about_subtitle,
        hub="allenai/Molmo2-VideoSubtitleQA",
        aliases=(
            *("molmo2_video_subtitle_qa", "molmo2_video_subtitleqa", "molmo2_subtitleqa"),
            "molmo2_syn_captions_subtitle_qa",
        ),
        either=(
            ("video_id", "video_path"),
            ("Question", "question"),
            ("Answer", "answer"),
            ("subtitle", "subtitles"),
        ),
    ),
    _question_set(
        "molmo2_askmodelanything",
        "HumanQA",
        _parse_open,
        hub="allenai/Molmo2-AskModelAnything",
        aliases=("molmo2_ask_model_anything", "molmo2_human_qa"),
        either=(("video_id", "video_path"), ("question",), ("answer",)),
    ),
)
