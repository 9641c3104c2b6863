"""The three sets of several pictures an example (Molmo2 datasets §1A.3, §1B.3).

Every example has `image` (a list of LazyImage), fields of its own, `message_list` (what the model learns: one branch of
a message tree per annotation) and `metadata`.
"""

import functools
from collections.abc import Callable

import numpy as np

from grain_molmo.datasets.base import Dataset, Example, PathLike, StoreDataset, converted_splits, require
from grain_molmo.text.counting import with_no_pointing_prefix

MAX_IMAGES = 5
ONE_IMAGE, FEW_IMAGES, MANY_IMAGES = "1_image", "2_5_images", "6_images"
"""Store splits of Molmo2-MultiImageQA: `train_2_5_images`."""
MULTI_IMAGE_TYPES = ("chart", "chemical", "circuit", "diagram", "doc", "graphic", "music", "table")
MULTI_IMAGE_POINT_STYLES = ("multi_image_pointing", "multi_image_point_then_count")


class Molmo2MultiImageQa(StoreDataset):
    """Questions that people asked about a set of pictures, with corrected answers; each is a branch.

    Args:
        split: "train" or "validation".
        max_images: 5 leaves out larger sets, which no stage shows whole; None takes them all.
        multi_only: leave out sets of a single picture.
        prefix_how_many: put an instruction not to point before the questions that ask to count.
        data_dir: the store's folder.
    """

    NAME = "molmo2_multiimageqa"

    def __init__(
        self,
        split: str = "train",
        max_images: int | None = MAX_IMAGES,
        multi_only: bool = True,
        prefix_how_many: bool = True,
        data_dir: PathLike | None = None,
    ):
        require("max_images", max_images, (None, MAX_IMAGES))
        names = [] if multi_only else [ONE_IMAGE]
        names += [FEW_IMAGES] if max_images else [FEW_IMAGES, MANY_IMAGES]
        super().__init__(split, data_dir, store_splits=converted_splits(self.NAME, split, data_dir, names))
        self.prefix_how_many = prefix_how_many

    def get(self, item: int, rng: np.random.RandomState) -> Example:
        """Example `item`: fields `questions` and `answers`, in pairs."""
        record = self.records[item]
        pairs = record.annotation["questions"]
        messages = [
            {
                "style": "correction_qa",
                "question": with_no_pointing_prefix(question, rng) if self.prefix_how_many else question,
                "answer": answer,
            }
            for question, answer in pairs
        ]
        return {
            "image": self.images(record),
            "questions": [question for question, _ in pairs],
            "answers": [answer for _, answer in pairs],
            "message_list": messages,
            "metadata": self.metadata(record),
        }


class Molmo2SynMultiImageQa(StoreDataset):
    """Generated questions about two to five rendered charts, tables, diagrams and the like.

    Args:
        split: "train"; the hub has no other.
        doc_type: "chart", "chemical", "circuit", "diagram", "doc", "graphic", "music", "table", or None for all that
            were converted.
        explanations: answer with the reasoning in front.
        data_dir: the store's folder.
    """

    NAME = "molmo2_synmultiimageqa"

    def __init__(
        self,
        split: str = "train",
        doc_type: str | None = None,
        explanations: bool = False,
        data_dir: PathLike | None = None,
    ):
        require("doc_type", doc_type, (None, *MULTI_IMAGE_TYPES))
        names = [doc_type] if doc_type else MULTI_IMAGE_TYPES
        super().__init__(split, data_dir, store_splits=converted_splits(self.NAME, split, data_dir, names))
        self.doc_type, self.explanations = doc_type, explanations

    def get(self, item: int, rng: np.random.RandomState) -> Example:
        """Example `item`: fields `questions`, `answers` (in pairs) and `document_type`."""
        record = self.records[item]
        doc_type, entries = record.annotation["doc_type"], record.annotation["questions"]
        messages = []
        for entry in entries:
            # Where a question has no explanation, an answer without one must not be asked for with reasoning.
            explains = self.explanations and entry["explanation"]
            message = {"question": entry["question"], "answer": entry["answer"]}
            if explains:
                messages.append({"style": f"cosyn_{doc_type}_exp", **message, "explanation": entry["explanation"]})
            else:
                messages.append({"style": f"cosyn_{doc_type}", **message})
        return {
            "image": self.images(record),
            "questions": [entry["question"] for entry in entries],
            "answers": [entry["answer"] for entry in entries],
            "document_type": doc_type,
            "message_list": messages,
            "metadata": self.metadata(record),
        }


class Molmo2MultiImagePoint(StoreDataset):
    """What people pointed at in a set of pictures, one label a picture, alike or not.

    Which label is asked for, and in which of the pictures, is drawn when the text is written.

    Args:
        split: "train".
        data_dir: the store's folder.
    """

    NAME = "molmo2_multiimagepoint"

    def __init__(self, split: str = "train", data_dir: PathLike | None = None):
        super().__init__(split, data_dir)

    def get(self, item: int, rng: np.random.RandomState) -> Example:
        """Example `item`: fields `labels` and `points` (percent of each picture, one list a picture)."""
        record = self.records[item]
        labels, normalized, points = (record.annotation[key] for key in ("labels", "normalized_labels", "points"))
        message = {
            "style": MULTI_IMAGE_POINT_STYLES[rng.randint(len(MULTI_IMAGE_POINT_STYLES))],
            "labels": labels,
            "normalized_labels": normalized,
            "points": points,
            "point_scale": 100,
            "clip_points": True,
        }
        return {
            "image": self.images(record),
            "labels": labels,
            "points": points,
            "message_list": [message],
            "metadata": self.metadata(record),
        }


_by_type = {
    f"cosyn_multidoc_{kind}": functools.partial(Molmo2SynMultiImageQa, doc_type=kind) for kind in MULTI_IMAGE_TYPES
}
_explained = {f"{name}_exp": functools.partial(made, explanations=True) for name, made in _by_type.items()}

MULTI_IMAGE_DATASETS: dict[str, Callable[..., Dataset]] = {
    "molmo2_multiimageqa": Molmo2MultiImageQa,
    "molmo2_multi_image_qa": Molmo2MultiImageQa,
    "pixmo_multi_image_qa": functools.partial(Molmo2MultiImageQa, max_images=None),
    "pixmo_multi_image_qa_multi_only_max5": Molmo2MultiImageQa,
    "correction_qa_multi_only_max5": Molmo2MultiImageQa,  # as the mixtures call it
    "molmo2_synmultiimageqa": Molmo2SynMultiImageQa,
    "molmo2_syn_multi_image_qa": Molmo2SynMultiImageQa,
    **_by_type,
    **_explained,
    "molmo2_multiimagepoint": Molmo2MultiImagePoint,
    "molmo2_multi_image_point": Molmo2MultiImagePoint,
    "pixmo_multi_points": Molmo2MultiImagePoint,
}
"""The sets by the names that mixtures call them."""
