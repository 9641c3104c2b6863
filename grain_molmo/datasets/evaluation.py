"""Datasets to measure a model by: one prompt an example, and in its metadata all that a scorer needs."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from grain_molmo.datasets.base import Dataset, Example, PathLike, StoreDataset, content_fingerprint, metadata_of
from grain_molmo.errors import DamagedRecordError, ExampleError
from grain_molmo.text.format import message_list
from grain_molmo.vision.chosen import with_chosen_as_video
from grain_molmo.vision.pictures import picture_size_hw


class EachMessage(Dataset):
    """Each message of a dataset's examples as an example for itself, so that a model is asked one thing at a time.

    An evaluation is one fixed thing: random choices are those of `dataset[item]`, whatever `rng` says. The annotations
    are read once when this is made, to know how many messages each example has.

    Args:
        dataset: of examples with a `message_list`, or with `questions`; others come as they are.

    Attributes:
        ids: of all examples, unique if those of the dataset are. The messages of example ID are ID#0, ID#1, ...; where
            several examples have the same id, they are numbered through.
    """

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        places: list[tuple[int, int]] = []
        self.ids: list[str] = []
        of_id: Counter[str] = Counter()
        for item in range(len(dataset)):
            example_id, n_messages = _glance(dataset, item)
            for number in range(max(1, n_messages)):
                places.append((item, number))
                self.ids.append(f"{example_id}#{of_id[example_id] + number}" if n_messages else example_id)
            of_id[example_id] += n_messages
        self._places_N2 = np.array(places, np.int64).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self._places_N2)

    @property
    def fingerprint(self) -> str:
        """That of the dataset."""
        return content_fingerprint(self.dataset)

    def get(self, item: int, rng: np.random.RandomState) -> Example:
        """The message's example; `metadata` has `message`, and `image_size` where something is shown: `shown_size`.

        Raises:
            ExampleError, DamagedRecordError: as the dataset does.
        """
        of_dataset, number = self._places_N2[item].tolist()
        example = self.dataset[of_dataset]
        messages = message_list(example)
        facts = {**metadata_of(example), "id": self.ids[item]}
        if size := shown_size(example):
            facts["image_size"] = size
        if not messages:
            return {**example, "metadata": facts}
        facts["message"] = messages[number]
        return {**example, "message_list": [messages[number]], "metadata": facts}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dataset!r}, {len(self)} messages)"


def _glance(dataset: Dataset, item: int) -> tuple[str, int]:
    """An example's id and how many messages it has; 0 if it is one itself, or cannot be had."""
    try:
        example = dataset[item]
        return str(metadata_of(example).get("id", item)), len(message_list(example) or ())
    except (ExampleError, DamagedRecordError):  # it will be told where the example is wanted
        return str(item), 0


def shown_size(example: Mapping[str, Any]) -> list[int] | list[list[int]] | None:
    """[width, height] in pixels of the picture or video, a list of these for a list of pictures; None if not known."""
    example = with_chosen_as_video(example)
    image, video = example.get("image"), example.get("video")
    if isinstance(image, list | tuple):
        return [[*reversed(picture_size_hw(picture))] for picture in image] or None
    if image is not None:
        return [*reversed(picture_size_hw(image))]
    if video is not None and hasattr(video, "width") and hasattr(video, "height"):
        return [int(video.width), int(video.height)]
    return None


class DenseCaptionEval(StoreDataset):
    """Pictures to be described at length: those of `PixMoCap` held out of training, each with what people said of it.

    Only a question: it belongs into an evaluation, or a stage of kind "prompts".

    Args:
        split: of `PixMoCap`.
        data_dir: the store's folder.
    """

    NAME = "pixmo_cap"

    def __init__(self, split: str = "validation", data_dir: PathLike | None = None):
        super().__init__(split, data_dir)

    def get(self, item: int, rng: np.random.RandomState) -> Example:
        """Example `item`; in `metadata` also `caption` and `transcripts`, to compare with."""
        record = self.records[item]
        known = {key: record.annotation[key] for key in ("caption", "transcripts")}
        metadata = {**self.metadata(record), **known}
        return {"image": self.images(record)[0], "style": "long_caption", "metadata": metadata}


EVALUATION_DATASETS: dict[str, Callable[..., Dataset]] = {"dense_caption_eval": DenseCaptionEval}
"""The sets by the names that evaluations call them."""
