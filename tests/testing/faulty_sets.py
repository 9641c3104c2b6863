"""A dataset that is as it must be, and ones with a fault each: what `check_dataset` must tell."""

import datetime
import itertools
import random
import tempfile
import threading
from typing import Any

import numpy as np

import grain_molmo as gm

NUM_EXAMPLES = 12


class Sound(gm.Dataset):
    """Questions about noise."""

    def __init__(self, split: str = "train"):
        self.split = split

    def __len__(self) -> int:
        return NUM_EXAMPLES

    def get(self, item: int, rng: np.random.RandomState) -> Any:
        image_HW3 = np.random.RandomState(item).randint(0, 256, (40, 60, 3), dtype=np.uint8)
        if rng.random_sample() < 0.5:
            image_HW3 = np.fliplr(image_HW3)
        messages = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": f"Noise {item}."}]
        return {"image": image_HW3, "messages": messages, "metadata": {"id": f"noise-{item}", "seen": [item, None]}}


class Changed(Sound):
    """The sound examples with some fields replaced."""

    def get(self, item, rng):
        example = super().get(item, rng)
        return {**example, **self.changes(item, example, rng)}

    def changes(self, item, example, rng) -> dict[str, Any]:
        raise NotImplementedError


class Empty(Sound):
    def __len__(self):
        return 0


class NoNumber(Sound):
    def __len__(self):
        return None  # pyright: ignore[reportReturnType]


class Growing(Sound):
    seen = 0

    def __len__(self):
        return NUM_EXAMPLES + self.seen // 1000

    def get(self, item, rng):
        self.seen += 100
        return super().get(item, rng)


class FromOneEnd(Sound):
    def __getitem__(self, item):
        return self.get(max(item, 0), np.random.RandomState(0))


class Endless(Sound):
    def __iter__(self):
        return (self[i % NUM_EXAMPLES] for i in itertools.count())


class Nothing(Sound):
    def get(self, item, rng):
        return None if item == 3 else super().get(item, rng)


class Raising(Sound):
    def get(self, item, rng):
        return {"a": super().get(item, rng)}["b"]


class Floats(Changed):
    def changes(self, item, example, rng):
        return {"image": example["image"] / 255}


class ChannelsFirst(Changed):
    def changes(self, item, example, rng):
        return {"image": example["image"].transpose(2, 0, 1)}


class Paths(Changed):
    def changes(self, item, example, rng):
        return {"image": ["a.jpg", example["image"]]}


class Images(Changed):
    def changes(self, item, example, rng):
        return {"image": None, "images": [example["image"]]}


class PictureAndVideo(Changed):
    def changes(self, item, example, rng):
        return {"video": np.stack([example["image"]] * 2), "timestamps": [0.0, 1.0]}


class VideoWithoutTimes(Sound):
    def get(self, item, rng):
        example = super().get(item, rng)
        return {"video": np.stack([example["image"]] * 2), "messages": example["messages"]}


class OwnRoles(Changed):
    def changes(self, item, example, rng):
        return {"messages": [{"role": "human", "content": "What?"}, {"role": "bot", "content": "Noise."}]}


class NoAnswer(Changed):
    def changes(self, item, example, rng):
        return {"messages": None, "prompt": "What?"}


class EmptyAnswers(Changed):
    def changes(self, item, example, rng):
        return {"messages": ["What?", " "]} if item in (2, 5) else {}


class PointsOutside(Changed):
    def changes(self, item, example, rng):
        return {"messages": None, "points": [(30, 20), (600, 20)], "label": "noise"}


class UnlikeMetadata(Changed):
    def changes(self, item, example, rng):
        return {"metadata": {"id": item, "taken": {"on": datetime.date(2024, 1, 1)}}}


class ListOfMetadata(Changed):
    def changes(self, item, example, rng):
        return {"metadata": [item]}


class SharedNumpy(Changed):
    def changes(self, item, example, rng):
        return {"image": example["image"][: np.random.randint(10, 40)]}


class SeededNumpy(Changed):
    def changes(self, item, example, rng):
        np.random.seed(0)
        return {}


class SharedPython(Changed):
    def changes(self, item, example, rng):
        return {"messages": [random.choice(["What?", "Which?"]), "Noise."]}


class RestoredNumpy(Changed):
    """Draws from the process's random state and puts it back, so that only the draw can tell."""

    def changes(self, item, example, rng):
        before = np.random.get_state()
        draw = np.random.random_sample()
        np.random.set_state(before)
        return {"messages": ["What?", f"Noise {draw}."]}


class FreshGenerator(Changed):
    def changes(self, item, example, rng):
        return {"messages": ["What?", f"Noise {np.random.default_rng().random()}."]}


class Counting(Changed):
    calls = 0

    def changes(self, item, example, rng):
        self.calls += 1
        return {"metadata": {"id": str(item), "visit": self.calls}}


class LikeTheLast(Changed):
    """An example that depends on the one before it, and at once again is the same."""

    def __init__(self):
        super().__init__()
        self.before = self.now = -1

    def changes(self, item, example, rng):
        if item != self.now:
            self.before, self.now = self.now, item
        return {"messages": ["What?", f"After {self.before} noise {item}."]}


class CachedDraws(Changed):
    """The same example at each visit, but the random state is left as it was when the example is known already."""

    def __init__(self):
        super().__init__()
        self.drawn: dict[int, float] = {}

    def changes(self, item, example, rng):
        if item not in self.drawn:
            self.drawn[item] = np.random.RandomState(item).random_sample()
            rng.random_sample()
        return {"messages": ["What?", f"Noise {self.drawn[item]}."]}


class CachedPixels(Sound):
    def __init__(self):
        super().__init__()
        self.cache: dict[int, np.ndarray] = {}

    def get(self, item, rng):
        if item not in self.cache:
            self.cache[item] = np.full((40, 60, 3), item, np.uint8)
        return {"image": self.cache[item], "messages": ["What?", "Noise."]}


class SharedMetadata(Changed):
    def __init__(self):
        super().__init__()
        self.facts = [{"id": str(i), "tags": ["noise"]} for i in range(NUM_EXAMPLES)]

    def changes(self, item, example, rng):
        return {"metadata": dict(self.facts[item])}  # a copy, but not of the tags


class OpenFile(Changed):
    """Reads from one open file: it does not pickle, and threads move its position under each other's feet."""

    def __init__(self):
        super().__init__()
        self.file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self.file.write(b"".join(b"%09d\n" % i * 10 for i in range(NUM_EXAMPLES)))

    def changes(self, item, example, rng):
        self.file.seek(item * 100)
        return {"messages": ["What?", self.file.read(100).decode()]}


class Locked(Sound):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


class ForgottenInPickles(Changed):
    def __init__(self):
        super().__init__()
        self.prompt = "Which?"

    def __setstate__(self, state):
        self.__dict__ = {**state, "prompt": "What?"}

    def changes(self, item, example, rng):
        return {"messages": [self.prompt, "Noise."]}


class Scratch(Changed):
    """Threads write into one array and read what others wrote."""

    def __init__(self):
        super().__init__()
        self.scratch = np.zeros(20, np.int64)

    def changes(self, item, example, rng):
        for i in range(len(self.scratch)):
            self.scratch[i] = item
        return {"messages": ["What?", f"Noise {self.scratch.sum()}."]}


class Lying:
    """A picture that says another size than it has."""

    shape = (40, 60, 3)

    def decode(self):
        return np.zeros((60, 40, 3), np.uint8)


class Rotated(Changed):
    def changes(self, item, example, rng):
        return {"image": Lying()}


class Broken(Changed):
    def changes(self, item, example, rng):
        return {"image": BrokenPicture()} if item == 7 else {}


class BrokenPicture:
    shape = (40, 60, 3)

    def decode(self):
        raise OSError("the disk is gone")


class SameIds(Changed):
    def changes(self, item, example, rng):
        return {"metadata": {"id": f"noise-{item // 2}"}}


class SameIdsFarApart(Sound):
    def __init__(self):
        self.ids = [f"noise-{i % 1999}" for i in range(2000)]

    def __len__(self):
        return len(self.ids)

    def get(self, item, rng):
        return {"question": "Which?", "answer": "This.", "metadata": {"id": self.ids[item]}}


class ForeignIds(Sound):
    ids = tuple(f"noise-{i}" for i in range(NUM_EXAMPLES + 1))


class OtherIds(Sound):
    @property
    def ids(self):
        return [str(i) for i in range(NUM_EXAMPLES)]


class FreshFingerprint(Sound):
    @property
    def fingerprint(self):
        return f"{np.random.default_rng().random()}"


class NumberFingerprint(Sound):
    fingerprint = 7


class ManyPictures(Changed):
    def changes(self, item, example, rng):
        return {"image": [example["image"]] * 6}


class Features(gm.Dataset):
    """Rows for a probe."""

    def __len__(self):
        return NUM_EXAMPLES

    def get(self, item, rng):
        return {"features": np.arange(4.0) + item, "label": item % 3, "metadata": {"id": f"row-{item}"}}


class RaggedFeatures(Features):
    def get(self, item, rng):
        return {**super().get(item, rng), "features": np.arange(4.0 + item % 2)}


class LabelsInWords(Features):
    def get(self, item, rng):
        return {**super().get(item, rng), "label": "left"}
