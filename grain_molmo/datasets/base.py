"""What a dataset is: random access to examples, each a dict that says what to show the model and what to learn."""

import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from grain_molmo.errors import ConfigError
from grain_molmo.rng import example_rng, stable_hash
from grain_molmo.store import AnnotationSource, MediaStore, Record, load_manifest, resolve_data_dir
from grain_molmo.vision.chosen import Frames, choose_frames
from grain_molmo.vision.lazy import LazyImage, LazyVideo

if TYPE_CHECKING:
    from grain_molmo.stages import Stage
    from grain_molmo.text.tokenizer import Tokenizer
    from grain_molmo.view.shown import Shown

Example = dict[str, Any]
PathLike = str | os.PathLike[str]


class Dataset:
    """Base of all datasets; also a Grain random-access data source.

    A subclass gives `__len__` and `get`. An example is a dict with

    - `image`: one picture ([H, W, 3] uint8 array, PIL image or LazyImage), a list of them, or `Frames` of a video, or
      `video`: a video (LazyVideo, or the path of a file), with `subtitle` if it has one; neither for text,
    - `messages`: a conversation (dicts with `role` and `content`, or strings that alternate user, assistant), or
      `message_list`: several independent annotations of the same media, which become branches of a message tree;
      or in fields of its own what `with_lesson` takes: `question` and `answer`, `caption`, `points`, `count`, ...,
    - `boxes` [N, 4] (left, top, right, bottom; pixels, or of a `box_scale`) and `box_labels`, which views draw,
    - `metadata`: anything that should travel beside the tokens, `id` and `source` among it; of a video the part to show
      (`clip_start_time`, `clip_end_time`, seconds) and how to sample it (`sampler_overrides`).
    """

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} must say how many examples it has")

    def get(self, item: int, rng: np.random.RandomState) -> Example:
        """Example `item`; all its random choices come from `rng`.

        Args:
            item: its number, from 0 to `len - 1`.
            rng: fixed by the seed, the dataset's name, the epoch and `item`.

        Raises:
            ExampleError: what a dataset of one's own raises for an example that cannot be used: it is left out of the
                plan, counted and reported.
        """
        raise NotImplementedError(f"{type(self).__name__} must return an example")

    def __getitem__(self, item: int) -> Example:
        """Example `item` with random choices that depend on the index alone.

        Args:
            item: from 0, or from the end if negative.

        Raises:
            IndexError: there is no such example.
            TypeError: for a slice; a dataset is read one example at a time.
        """
        if isinstance(item, slice):
            wanted = range(*item.indices(len(self)))
            raise TypeError(f"{type(self).__name__} is read one example at a time: [dataset[i] for i in {wanted}]")
        item = range(len(self))[item]  # negative indices, and IndexError past the end
        return self.get(item, example_rng(0, type(self).__name__, 0, item))

    def __iter__(self) -> Iterator[Example]:
        return (self[item] for item in range(len(self)))

    @staticmethod
    def extract_frames(
        path: PathLike | bytes | LazyVideo, max_frames: int = 16, max_fps: float | None = None
    ) -> Frames:
        """Frames of a video, evenly spaced from its first to its last; as `image` of an example just these are shown.

        Args:
            path: of a file, or its bytes, or a stored video.
            max_frames: at most so many, and no more than it has.
            max_fps: at most so many a second.

        Raises:
            ExampleError: with reason "bad_video", if it does not open as a video.
            ConfigError: a number that makes no sense.
        """
        return choose_frames(path, max_frames, max_fps)

    def show(self, item: int = 0, *, stage: "str | Stage" = "sft", tokenizer: "str | Tokenizer" = "bytes") -> "Shown":
        """Example `item` to look at: in a notebook with its media, points and conversations, else as text.

        Args:
            item: which one; negative ones count from the end.
            stage: that makes its conversations, crops and frames: a name or a `Stage`.
            tokenizer: as of `make_loader`.

        Returns:
            A view, whose `save(path)` writes a page. What is wrong with the example is said there.

        Raises:
            ConfigError: an unknown stage or tokenizer.
            IndexError: there is no such example.
        """
        from grain_molmo.view.describe import describe_example  # views know datasets, not the other way round
        from grain_molmo.view.shown import Shown

        return Shown(describe_example(self, item, stage=stage, tokenizer=tokenizer))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} examples)"


class DatasetBase(Dataset):
    """A dataset that reads its annotations when it is made: a subclass gives `load` and `get`.

    Args:
        split: kept as `self.split`, for `load`; default what the subclass has set there before, else "train".

    Attributes:
        data: what `load` returned; the dataset is as long.

    Raises:
        ConfigError: `load` returned nothing that has a length.
    """

    def __init__(self, split: str | None = None):
        self.split: str = getattr(self, "split", "train") if split is None else split
        self.data: Any = self.load()
        if not hasattr(self.data, "__len__"):
            returned = type(self.data).__name__
            raise ConfigError(f"{type(self).__name__}.load() returned {returned}; it must return a list or its like")

    def load(self) -> Any:
        """All annotations of `self.split`, as a list or anything else with a length that `get` reads."""
        raise NotImplementedError(f"{type(self).__name__} must load its annotations")

    def __len__(self) -> int:
        return len(self.data)


def metadata_of(example: Any) -> Mapping[str, Any]:
    """What an example says of itself, nothing if that is no dict; an example may be anything."""
    metadata = example.get("metadata") if isinstance(example, Mapping) else None
    return metadata if isinstance(metadata, Mapping) else {}


def content_fingerprint(dataset: Dataset) -> str:
    """16 hex digits that stand for a dataset's examples: their number, and its `fingerprint` where it has one."""
    return f"{stable_hash(len(dataset), str(getattr(dataset, 'fingerprint', ''))):016x}"


@functools.lru_cache(maxsize=8)
def _media_store(data_dir: Path, generation: int) -> MediaStore:
    return MediaStore(data_dir)


def open_media_store(data_dir: Path) -> MediaStore:
    """The folder's media store, shared by the datasets of one process; opened anew after a conversion added to it."""
    folder = data_dir / "media"
    return _media_store(data_dir, folder.stat().st_mtime_ns if folder.exists() else 0)


class StoreDataset(Dataset):
    """A converted dataset.

    Args:
        split: what the user calls the split; recorded, and the store split unless `store_splits` says otherwise.
        data_dir: the store's folder; default $GRAIN_MOLMO_DATA.
        store_splits: splits of the store to concatenate.

    Raises:
        StoreError: the dataset was not converted into this folder.
        ConfigError: no such split, or no folder given.
    """

    NAME = ""

    def __init__(
        self,
        split: str = "train",
        data_dir: PathLike | None = None,
        *,
        store_splits: Sequence[str] | None = None,
    ):
        folder = resolve_data_dir(data_dir)
        self.split = split
        self.records = AnnotationSource(folder, self.NAME, store_splits if store_splits is not None else (split,))
        self.media = open_media_store(folder)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def fingerprint(self) -> str:
        """Stands for the annotations: equal for equal stores, wherever they lie."""
        return self.records.fingerprint

    def example_id(self, item: int) -> str:
        """The `id` in the metadata of example number `item`, without making the example."""
        return self.records[item].id

    def images(self, record: Record) -> list[LazyImage]:
        """The pictures of a `record` of `self.records`, none of them opened."""
        return [LazyImage(ref, self.media) for ref in record.media if ref.kind == "image"]

    def videos(self, record: Record) -> list[LazyVideo]:
        """The videos of a `record`, none of them opened, each with its prepared frames if the store has some."""
        followers = [*record.media[1:], None]
        return [
            LazyVideo(ref, self.media, after if after is not None and after.kind == "frames" else None)
            for ref, after in zip(record.media, followers, strict=False)
            if ref.kind == "video"
        ]

    def metadata(self, record: Record) -> dict[str, Any]:
        """Of a `record`: `id`, `source` (the set), `split`, and the picture's `url` where there is one."""
        url = {"url": record.annotation["url"]} if "url" in record.annotation else {}
        return {"id": record.id, "source": self.NAME, "split": self.split, **url}


def converted_splits(dataset: str, split: str, data_dir: PathLike | None, names: Iterable[str]) -> list[str]:
    """The store splits `SPLIT_NAME` that were converted; all that were asked for if none was, for the error to name."""
    wanted = [f"{split}_{name}" for name in names]
    converted = load_manifest(resolve_data_dir(data_dir), dataset)
    return [store_split for store_split in wanted if store_split in converted] or wanted


def require(name: str, value: Any, allowed: Iterable[Any]) -> None:
    """Raises ConfigError unless the argument of that name has one of the allowed values."""
    if value not in (allowed := tuple(allowed)):
        raise ConfigError(f"{name}={value!r}: must be one of {', '.join(map(repr, allowed))}")
