"""The PixMo sets as datasets (Molmo2 datasets §1A.3).

Every example has `image` (a LazyImage), the fields that PixMo's users know (`caption`, `query`, `points`, `count`,
`questions`, ...), `message_list` (what the model learns: one branch of a message tree per annotation) and `metadata`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from grain_molmo.datasets.base import Dataset, Example, PathLike, StoreDataset, converted_splits, require
from grain_molmo.datasets.captions import CaptionsByPicture
from grain_molmo.masks import decode_mask
from grain_molmo.store import Record, resolve_data_dir
from grain_molmo.text.counting import with_no_pointing_prefix

Counting = Literal["both"] | bool

CAP_MODES = ("captions", "transcript", "transcripts", "transcript_and_caption", "transcript1_and_caption")
POINTS_KINDS = {"basic": "pointing", "high_frequency": "counting"}
DOC_TYPES = ("charts", "tables", "diagrams", "other")
QA_STYLES = ("synthetic_qa", "user_qa")


class _PixMo(StoreDataset):
    """What the sets have in common: one picture an example, metadata from the record."""

    def _example(self, record: Record, message_list: list[dict[str, Any]], fields: Mapping[str, Any]) -> Example:
        media = {"image": self.images(record)[0]}
        return {**media, **fields, "message_list": message_list, "metadata": self.metadata(record)}


class PixMoCap(_PixMo):
    """Dense captions, and what speakers said about the picture.

    Args:
        split: "train" or "validation".
        mode: "captions"; "transcript_and_caption" (and one transcript, drawn anew at each visit);
            "transcript1_and_caption" (and the first); "transcript" (the first alone); "transcripts" (all, no caption).
        data_dir: the store's folder.
    """

    NAME = "pixmo_cap"

    def __init__(self, split: str = "train", mode: str = "captions", data_dir: PathLike | None = None):
        require("mode", mode, CAP_MODES)
        super().__init__(split, data_dir)
        self.mode = mode

    def get(self, item: int, rng: np.random.RandomState) -> Example:
        """Example `item`: fields `caption` and `transcripts`."""
        record = self.records[item]
        caption, transcripts = record.annotation["caption"], record.annotation["transcripts"]
        messages = [{"style": "long_caption", "text": caption}] if "caption" in self.mode else []
        if self.mode == "captions":
            spoken = []
        elif self.mode == "transcript_and_caption":
            spoken = [transcripts[rng.randint(len(transcripts))]] if transcripts else []
        else:
            spoken = transcripts if self.mode == "transcripts" else transcripts[:1]
        messages += [{"style": "transcript", "text": text} for text in spoken]
        return self._example(record, messages, {"caption": caption, "transcripts": transcripts})


class _PointOrCount(_PixMo):
    """Sets of labelled points that can be shown as pointing, as counting by pointing, or as both in turn.

    Args:
        split: of the set.
        counting: True, False, or "both": every record makes two examples, the even index counts, the odd one points.
        data_dir: the store's folder.
        store_splits: of the store.
    """

    def __init__(
        self,
        split: str = "train",
        counting: Counting = "both",
        data_dir: PathLike | None = None,
        *,
        store_splits: Sequence[str] | None = None,
    ):
        require("counting", counting, ("both", True, False))
        super().__init__(split, data_dir, store_splits=store_splits)
        self.counting = counting

    def __len__(self) -> int:
        return len(self.records) * (2 if self.counting == "both" else 1)

    def example_id(self, item: int) -> str:
        """The id of the record: both examples of one record have the same."""
        return self._record_and_mode(item)[0].id

    def _record_and_mode(self, item: int) -> tuple[Record, bool]:
        if self.counting == "both":
            return self.records[item // 2], item % 2 == 0
        return self.records[item], bool(self.counting)


class PixMoPoints(_PointOrCount):
    """What people pointed at, several labels a picture.

    Args:
        split: "train" or "validation".
        kind: "basic" (pictures chosen for pointing), "high_frequency" (for counting many things), or None for both.
        counting: see `_PointOrCount`.
        data_dir: the store's folder.
    """

    NAME = "pixmo_points"

    def __init__(
        self,
        split: str = "train",
        kind: str | None = None,
        counting: Counting = "both",
        data_dir: PathLike | None = None,
    ):
        require("kind", kind, (None, *POINTS_KINDS))
        methods = [POINTS_KINDS[kind]] if kind else list(POINTS_KINDS.values())
        super().__init__(split, counting, data_dir, store_splits=converted_splits(self.NAME, split, data_dir, methods))
        self.kind = kind

    def get(self, item: int, rng: np.random.RandomState) -> Example:
        """Example `item`: fields `query`, `points` (x, y in pixels) and `object_names` (one for each point)."""
        record, counts = self._record_and_mode(item)
        labels = record.annotation["labels"]
        style = "point_count" if counts else "pointing"
        messages = [
            {
                "style": style,
                "label": entry["label"],
                "points": _points_N2(entry["points"]),
                "point_scale": 100,
                "clip_points": True,
            }
            for entry in labels
        ]
        to_pixels = np.array([record.media[0].width, record.media[0].height]) / 100
        named = [(point, entry["label"]) for entry in labels for point in _points_N2(entry["points"]) * to_pixels]
        names = ", ".join(entry["label"] for entry in labels)
        fields = {
            "query": f"How many are there of: {names}?" if counts else f"Point to: {names}",
            "points": [(round(float(x)), round(float(y))) for (x, y), _ in named],
            "object_names": [name for _, name in named],
        }
        return self._example(record, messages, fields)


class PixMoCount(_PointOrCount):
    """How many of one kind of thing there are; in the train split with the points, in pixels.

    Validation and test have no points: their answer is the number alone, and `counting="both"` means counting there.

    Args:
        split: "train", "validation" or "test".
        counting: see `_PointOrCount`.
        data_dir: the store's folder.
    """

    NAME = "pixmo_count"

    def __init__(self, split: str = "train", counting: Counting = "both", data_dir: PathLike | None = None):
        super().__init__(split, True if counting == "both" and split != "train" else counting, data_dir)

    def get(self, item: int, rng: np.random.RandomState) -> Example:
        """Example `item`: fields `count`, `object_name`, `query`."""
        record, counts = self._record_and_mode(item)
        label, count, points = (record.annotation[key] for key in ("label", "count", "points"))
        if points is None:
            message = {"style": "count", "label": label, "count": count}
        else:
            # Sizes beside the points say that they are pixels of this picture (Molmo2 datasets §0.4).
            size = {"width": record.media[0].width, "height": record.media[0].height}
            style = "point_count" if counts else "pointing"
            message = {"style": style, "label": label, "points": _points_N2(points), "count": count, **size}
        fields = {"count": count, "object_name": label, "query": f"How many {label} are in the image?"}
        return self._example(record, [message], fields)


class PixMoPointsEval(_PixMo):
    """What to point at to be compared with people: points with a mask around each.

    Args:
        split: "test".
        data_dir: the store's folder.
    """

    NAME = "pixmo_points_eval"

    def __init__(self, split: str = "test", data_dir: PathLike | None = None):
        super().__init__(split, data_dir)

    def get(self, item: int, rng: np.random.RandomState) -> Example:
        """Example `item`: field `query`; in `metadata` `masks`, an [H, W] bool array a point, and `points`, [N, 2].

        The points of the metadata are in pixels of the masks, those of the message in percent (Molmo2 datasets §1A.3);
        `image_size` is that of the picture, [width, height], which the masks need not have.
        """
        record = self.records[item]
        label, points_N2 = record.annotation["label"], _points_N2(record.annotation["points"])
        masks = [decode_mask(mask) for mask in record.annotation["masks"]]
        message = {"style": "pointing", "label": label, "points": points_N2, "point_scale": 100, "clip_points": True}
        example = self._example(record, [message], {"query": f"Point to: {label}"})
        to_pixels = np.array(masks[0].shape[::-1]) / 100 if masks else 1.0
        image_size = [record.media[0].width, record.media[0].height]
        example["metadata"] |= {"masks": masks, "points": points_N2 * to_pixels, "image_size": image_size}
        return example


class PixMoDocs(_PixMo):
    """Questions about rendered charts, tables, diagrams and other documents.

    Args:
        split: "train" or "validation".
        doc_type: "charts", "tables", "diagrams", "other", or None for all that were converted.
        data_dir: the store's folder.
    """

    NAME = "pixmo_docs"

    def __init__(self, split: str = "train", doc_type: str | None = None, data_dir: PathLike | None = None):
        require("doc_type", doc_type, (None, *DOC_TYPES))
        names = [doc_type] if doc_type else DOC_TYPES
        super().__init__(split, data_dir, store_splits=converted_splits(self.NAME, split, data_dir, names))
        self.doc_type = doc_type

    def get(self, item: int, rng: np.random.RandomState) -> Example:
        """Example `item`: fields `questions`, `answers` (in pairs) and `document_type`."""
        record = self.records[item]
        doc_type, pairs = record.annotation["doc_type"], record.annotation["questions"]
        style = f"pixmo_docs_{doc_type}"
        messages = [{"style": style, "question": question, "answer": answer} for question, answer in pairs]
        fields = {
            "questions": [question for question, _ in pairs],
            "answers": [answer for _, answer in pairs],
            "document_type": doc_type,
        }
        return self._example(record, messages, fields)


class PixMoCapQa(_PixMo):
    """Dialogues that were written from captions; each is a branch.

    Args:
        split: "train" or "validation".
        style: "synthetic_qa" or "user_qa".
        prefix_how_many: put an instruction not to point before the user turns that ask to count.
        captions: give the captions that the dialogues were written from, which are PixMo-Cap's of the same pictures; to
            find them, its records in the same folder are read when the dataset is made.
        data_dir: the store's folder.
    """

    NAME = "pixmo_cap_qa"

    def __init__(
        self,
        split: str = "train",
        style: str = "synthetic_qa",
        prefix_how_many: bool = True,
        captions: bool = False,
        data_dir: PathLike | None = None,
    ):
        require("style", style, QA_STYLES)
        super().__init__(split, data_dir)
        self.style, self.prefix_how_many = style, prefix_how_many
        self.captions = CaptionsByPicture(resolve_data_dir(data_dir)) if captions else None

    def get(self, item: int, rng: np.random.RandomState) -> Example:
        """Example `item`: fields `question`, `answer` (of the first dialogue, its last turns) and `caption`.

        The hub gives no caption with this set: it is None without `captions`, and for a picture that has none.
        """
        record = self.records[item]
        caption = self.captions.find(record.media[0].sha256) if self.captions else None
        dialogues = [conversation["turns"] for conversation in record.annotation["conversations"]]
        messages = [{"style": self.style, "messages": self._turns(turns, rng)} for turns in dialogues]
        fields = {"question": dialogues[0][-2], "answer": dialogues[0][-1], "caption": caption}
        return self._example(record, messages, fields)

    def _turns(self, turns: Sequence[str], rng: np.random.RandomState) -> list[str]:
        return [_user_turn(text, self.prefix_how_many, rng) if i % 2 == 0 else text for i, text in enumerate(turns)]


class PixMoAskModelAnything(_PixMo):
    """Questions that people asked about pictures, with corrected answers; each is a branch.

    Args:
        split: "train" or "validation".
        prefix_how_many: put an instruction not to point before the questions that ask to count.
        data_dir: the store's folder.
    """

    NAME = "pixmo_ask_model_anything"

    def __init__(self, split: str = "train", prefix_how_many: bool = True, data_dir: PathLike | None = None):
        super().__init__(split, data_dir)
        self.prefix_how_many = prefix_how_many

    def get(self, item: int, rng: np.random.RandomState) -> Example:
        """Example `item`: fields `question` and `answer`, the first of the picture's."""
        record = self.records[item]
        entries = record.annotation["questions"]
        messages = [
            {
                "style": "user_qa",
                "question": _user_turn(entry["question"], self.prefix_how_many, rng),
                "answer": entry["answer"],
            }
            for entry in entries
        ]
        return self._example(record, messages, {key: entries[0][key] for key in ("question", "answer")})


class PixMoClocks(_PixMo):
    """Watch faces and the time that they show.

    Args:
        split: "train" or "validation".
        data_dir: the store's folder.
    """

    NAME = "pixmo_clocks"

    def __init__(self, split: str = "train", data_dir: PathLike | None = None):
        super().__init__(split, data_dir)

    def get(self, item: int, rng: np.random.RandomState) -> Example:
        """Example `item`: fields `time` ("5:34:22", "7:57 AM") and `query`."""
        record = self.records[item]
        time, query = record.annotation["time"], "What time is being shown?"
        message = {"style": "clocks", "question": query, "answer": time}
        return self._example(record, [message], {"time": time, "query": query})


def _points_N2(points: Sequence[Sequence[float]]) -> np.ndarray:
    return np.asarray(points, dtype=np.float64).reshape(-1, 2)


def _user_turn(text: str, prefix_how_many: bool, rng: np.random.RandomState) -> str:
    return with_no_pointing_prefix(text, rng) if prefix_how_many else text


_docs = {f"pixmo_docs_{doc_type}": functools.partial(PixMoDocs, doc_type=doc_type) for doc_type in DOC_TYPES}

PIXMO_DATASETS: dict[str, Callable[..., Dataset]] = {
    "pixmo_cap": PixMoCap,
    "pixmo_cap_with_transcripts": functools.partial(PixMoCap, mode="transcript_and_caption"),
    "pixmo_points": PixMoPoints,
    "pixmo_points_train": functools.partial(PixMoPoints, kind="basic"),
    "pixmo_points_high_freq_train": functools.partial(PixMoPoints, kind="high_frequency"),
    "pixmo_points_eval": PixMoPointsEval,
    "pointing_eval_v2": PixMoPointsEval,
    "pixmo_point_eval2": PixMoPointsEval,
    "pixmo_count": PixMoCount,
    "pixmo_count_train": PixMoCount,
    "pixmo_count_counting": functools.partial(PixMoCount, counting=True),
    "pixmo_docs": PixMoDocs,
    **_docs,
    "pixmo_cap_qa": PixMoCapQa,
    "pixmo_capqa": PixMoCapQa,
    "pixmo_cap_qa_as_user_qa": functools.partial(PixMoCapQa, style="user_qa"),
    "pixmo_ask_model_anything": PixMoAskModelAnything,
    "pixmo_askmodelanything": PixMoAskModelAnything,
    "pixmo_clocks": PixMoClocks,
}
"""The sets by the names that mixtures call them."""
