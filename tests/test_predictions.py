"""Predictions in a file that any scorer can read, each example once."""

import json

import numpy as np
import pytest

from grain_molmo import predictions
from grain_molmo.errors import StoreError
from grain_molmo.predictions import Prediction, gather_predictions, plain_metadata, write_predictions


def prediction(number, text="A dog.", **fields):
    return Prediction(number, "pixmo_cap", f"id{number}", text, **fields)


def test_metadata_keep_what_json_can_hold():
    metadata = {
        "id": "a",
        "points": np.array([[1.0, 2.5]]),
        "count": np.int64(3),
        "nested": {"size": (1, 2), "message": {"points": np.array([1])}},
        "flags": np.array([True, False]),
        "masks": [np.ones((2, 2), bool)],
        "nan": float("nan"),
        "picture": object(),
        "text": "\ud800 é",
    }
    assert plain_metadata(metadata) == {
        "id": "a",
        "points": [[1.0, 2.5]],
        "count": 3,
        "nested": {"size": [1, 2], "message": {"points": [1]}},
        "flags": [True, False],
        "text": "\ud800 é",
    }


def test_the_file_is_a_list_of_objects_and_says_only_what_there_is_to_say(tmp_path):
    path = tmp_path / "new" / "predictions.json"
    shown = prediction(0, prompt="Describe.", metadata={"url": "http://host/a.jpg"}, scores={"f1": 1.0})
    write_predictions(path, [shown, prediction(1, "", error="truncated")])
    assert json.loads(path.read_text()) == [
        {
            "example_id": "id0",
            "dataset": "pixmo_cap",
            "prompt": "Describe.",
            "prediction": "A dog.",
            "image_url": "http://host/a.jpg",
            "scores": {"f1": 1.0},
            "metadata": {"url": "http://host/a.jpg"},
        },
        {
            "example_id": "id1",
            "dataset": "pixmo_cap",
            "prompt": "",
            "prediction": "",
            "error": "truncated",
            "metadata": {},
        },
    ]


def test_whatever_bytes_a_model_writes_the_file_can_be_read(tmp_path):
    text = "\ud800\x00\n\u2028\U0001f600"
    write_predictions(tmp_path / "predictions.json", [prediction(0, text)])
    assert json.loads((tmp_path / "predictions.json").read_text())[0]["prediction"] == text


def test_processes_give_their_rows_and_get_all_of_them_in_order_once(monkeypatch):
    other = json.dumps([vars(prediction(1)), vars(prediction(0))])
    monkeypatch.setattr(predictions, "_gather_text", lambda own: [own, other])
    assert gather_predictions([prediction(2), prediction(1)]) == [prediction(0), prediction(1), prediction(2)]


def test_two_answers_to_one_example_are_told(monkeypatch):
    monkeypatch.setattr(predictions, "_gather_text", lambda own: [own, json.dumps([vars(prediction(1, "A cat."))])])
    with pytest.raises(StoreError, match=r"example 1 \(pixmo_cap, id id1\).*'A dog.' and 'A cat.'"):
        gather_predictions([prediction(1)])


def test_one_process_alone_gets_its_own_in_order():
    assert gather_predictions([prediction(1), prediction(0)]) == [prediction(0), prediction(1)]
