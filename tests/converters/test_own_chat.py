import json
from pathlib import Path

import pytest
from loopback import make_picture
from own_sources import converted

from converters.own.chat import chat_messages
from grain_molmo.errors import RowError


def turns(*texts: str) -> list[dict]:
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


def contents(value: list[dict], images: int = 1, videos: int = 0) -> list[str]:
    return [message["content"] for message in chat_messages(value, images, videos)]


@pytest.mark.parametrize(
    ("text", "images", "expected"),
    [
        ("<image>\nWhat?", 1, "What?"),
        ("What?\n<image>", 1, "What?"),
        ("What is it?<image>", 1, "What is it?"),
        ("<image><image> Compare.", 2, "Compare."),
        ("Is <image> like <image> here?", 2, "Is image 1 like image 2 here?"),
        ("Where in <image> is it?", 1, "Where in the image is it?"),
        ("No picture here", 1, "No picture here"),
        ("Line one.\n<image>\nLine two.", 1, "Line one.\nLine two."),
    ],
)
def test_placeholders_give_way_to_words_or_nothing(text: str, images: int, expected: str):
    assert contents(turns(text, "A."), images) == [expected, "A."]


def test_a_list_for_each_part_of_the_turns_is_a_conversation_too():
    columns = {"from": ["human", "gpt"], "value": ["Hi", "Hello"]}
    assert chat_messages(columns, 0, 0) == chat_messages(turns("Hi", "Hello"), 0, 0)
    with pytest.raises(RowError, match="bad_messages"):
        chat_messages({"from": [], "value": []}, 0, 0)


def test_pictures_are_counted_over_the_whole_conversation():
    assert contents(turns("<image>One?", "A.", "And what of <image> here?", "B."), 2)[2] == "And what of image 2 here?"


def test_roles_and_parts_of_other_projects_are_known():
    parts = [{"type": "image"}, {"type": "text", "text": "What?"}]
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]},
    ]
    assert chat_messages(chat, 1, 0) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What?"},
        {"role": "assistant", "content": "A cat."},
    ]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("text", "bad_messages"),
        ([], "bad_messages"),
        (["text"], "bad_messages"),
        ([{"from": "observation", "value": "x"}], "bad_messages"),
        ([{"role": "user", "content": None}], "bad_messages"),
        ([{"role": "user", "content": [{"type": "audio"}]}], "bad_messages"),
        (turns("<image><image>?", "A."), "placeholder_mismatch"),
        (turns("<video>?", "A."), "placeholder_mismatch"),
    ],
)
def test_conversations_that_make_no_sense_are_rejected(value, reason: str):
    with pytest.raises(RowError) as caught:
        chat_messages(value, 1, 0)
    assert caught.value.reason == reason


def test_real_chat_files_convert_once_their_pictures_are_there(tmp_path: Path, media: Path):
    rows = json.loads((media / "annotations/hiyouga__LLaMA-Factory/data/mllm_demo.json").read_text())
    for path in {path for row in rows for path in row["images"]}:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(make_picture(len(path)))
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    examples = converted(tmp_path / "rows.json", tmp_path / "data")
    assert len(examples) == len(rows)
    assert examples[0]["messages"][0] == {"role": "user", "content": "Who are they?"}
    assert [len(example["image"]) for example in examples] == [len(row["images"]) for row in rows]
    assert not any("<image>" in message["content"] for example in examples for message in example["messages"])
