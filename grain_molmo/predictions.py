"""What a model wrote to the examples of an evaluation: gathered from all processes, in a file that scorers read."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from grain_molmo.errors import StoreError
from grain_molmo.store.files import write_json


@dataclass(frozen=True)
class Prediction:
    """What a model wrote to an example of an evaluation.

    Attributes:
        number: of the example in the evaluation: step * batch size + row.
        dataset, id: which example.
        text: what the model wrote.
        prompt: to what.
        metadata: of the example, see `plain_metadata`.
        error: why the example could not be shown to the model, which then wrote nothing; "" if it could.
        scores: of the text.
    """

    number: int
    dataset: str
    id: str
    text: str
    prompt: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)


def plain_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON can hold of an example's `metadata`: arrays as lists; masks and objects are left out."""
    kept = {}
    for key, value in metadata.items():
        try:
            kept[str(key)] = json.loads(json.dumps(value, default=_plain, allow_nan=False))
        except (TypeError, ValueError, RecursionError):
            continue
    return kept


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic) or (
        isinstance(value, np.ndarray) and not (value.dtype == bool and value.ndim > 1)
    ):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")


def gather_predictions(own: Iterable[Prediction]) -> list[Prediction]:
    """The predictions of all processes of the job, each example once, in order; all processes must ask.

    Processes that share rows may have predicted the same; then it must be the same.

    Args:
        own: predictions of this process.

    Raises:
        StoreError: two processes wrote different things to one example.
    """
    rows = [asdict(prediction) for prediction in own]
    found: dict[int, Prediction] = {}
    for text in _gather_text(json.dumps(rows)):
        for row in json.loads(text):
            prediction = Prediction(**row)
            if (other := found.setdefault(prediction.number, prediction)) != prediction:
                raise StoreError(
                    f"example {prediction.number} ({prediction.dataset}, id {prediction.id}) has two answers, "
                    f"{other.text!r:.80} and {prediction.text!r:.80}, of two processes; are weights and data the same?"
                )
    return [found[number] for number in sorted(found)]


def _gather_text(own: str) -> list[str]:
    """The texts of all processes, in their order."""
    if jax.process_count() == 1:
        return [own]
    data = np.frombuffer(own.encode(), np.uint8)
    lengths_P = np.asarray(multihost_utils.process_allgather(np.int32(len(data))))
    padded = np.zeros(lengths_P.max(), np.uint8)
    padded[: len(data)] = data
    all_PN = np.asarray(multihost_utils.process_allgather(padded))
    return [row[:length].tobytes().decode() for row, length in zip(all_PN, lengths_P, strict=True)]


def write_predictions(path: str | os.PathLike[str], predictions: Iterable[Prediction]) -> None:
    """Writes `predictions.json`, atomically: a list of objects, an example each.

    Each has `example_id`, `dataset`, `prompt`, `prediction`, `metadata`; `image_url` where the picture has one,
    `error` where the example could not be shown, `scores` where there are any. On several processes, let one write
    what `gather_predictions` gives.

    Args:
        path: of the file.
        predictions: in the order to write.
    """
    write_json(Path(path), [_row(prediction) for prediction in predictions])


def _row(prediction: Prediction) -> dict[str, Any]:
    optional = {
        "image_url": prediction.metadata.get("url"),
        "error": prediction.error,
        "scores": dict(prediction.scores),
    }
    return {
        "example_id": prediction.id,
        "dataset": prediction.dataset,
        "prompt": prediction.prompt,
        "prediction": prediction.text,
        **{key: value for key, value in optional.items() if value},
        "metadata": dict(prediction.metadata),
    }
