"""Payloads: what goes in comes out, in the same bytes each time, and nothing else is taken for a record."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_makers import picture, ref_of

from grain_molmo.errors import ConfigError
from grain_molmo.store import MediaRef, Record, Reject, VideoFacts, content_key
from grain_molmo.store.example_proto import decode_example, encode_example
from grain_molmo.store.records import decode_media, decode_record, encode_media, encode_record

any_text = st.text(st.characters(codec=None), max_size=12)  # lone surrogates, too
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(any_text, children, max_size=3),
    max_leaves=8,
)
facts = st.builds(
    VideoFacts,
    duration_s=st.floats(0, 1e6, allow_subnormal=True),
    num_frames=st.integers(0, 2**40),
    fps=st.floats(0, 1e6),
)
refs = st.builds(
    MediaRef,
    sha256=st.binary(max_size=4).map(content_key),
    kind=st.sampled_from(("image", "video", "frames")),
    width=st.integers(1, 2**31),
    height=st.integers(1, 2**31),
    num_bytes=st.integers(0, 2**40),
    video=st.none() | facts,
)
records = st.builds(
    Record, id=any_text, annotation=st.dictionaries(any_text, json_values, max_size=4), media=st.lists(refs).map(tuple)
)


@given(records)
@settings(max_examples=150)
def test_a_record_comes_back_as_it_was_and_in_the_same_bytes(record: Record):
    payload = encode_record(record)
    assert decode_record(payload) == record
    assert encode_record(record) == payload


def test_a_record_that_was_written_before_there_were_videos_still_reads():
    fields = decode_example(encode_record(Record("a", {}, (ref_of(picture(0)),))))
    fields.pop("media/video")
    numbers = {name: values for name, values in fields.items() if values and isinstance(values[0], int)}
    texts = {name: values for name, values in fields.items() if name not in numbers}
    payload = encode_example(bytes_lists=texts, int64_lists=numbers)
    assert decode_record(payload) == Record("a", {}, (ref_of(picture(0)),))


@pytest.mark.parametrize(
    "text", ["\ud800", "\udfff\ud800", "\ud83d\ude00!", "😀", "\x00", "\x1f", "\\ud800", "é\u2028"]
)
def test_odd_characters_survive_in_ids_and_annotations(text: str):
    record = Record(text, {text: [text]})
    assert decode_record(encode_record(record)) == record


def test_a_payload_does_not_depend_on_the_order_in_which_features_are_given():
    assert encode_example(bytes_lists={"b": [b"1"], "a": [b"2"]}) == encode_example(
        bytes_lists={"a": [b"2"], "b": [b"1"]}
    )


def test_a_payload_is_the_wire_format_of_tf_train_example():
    # Example{features=1}{feature=1: {key=1 "x", value=2: {int64_list=3: {value=1 packed [7]}}}}, put together by hand.
    int64_list = b"\x0a\x01\x07"
    feature = b"\x1a" + bytes([len(int64_list)]) + int64_list
    entry = b"\x0a\x01x\x12" + bytes([len(feature)]) + feature
    features = b"\x0a" + bytes([len(entry)]) + entry
    assert encode_example(int64_lists={"x": [7]}) == b"\x0a" + bytes([len(features)]) + features
    assert decode_example(encode_example(float_lists={"y": [0.5]}, bytes_lists={"z": []})) == {"y": [0.5], "z": []}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"bytes", object()])
def test_an_annotation_that_is_no_json_is_refused_with_the_name_of_its_record(value: object):
    with pytest.raises(ConfigError, match="'bird 7'"):
        encode_record(Record("bird 7", {"value": value}))


@given(st.binary(max_size=40))
@settings(max_examples=100)
def test_bytes_that_are_no_record_raise_what_the_reader_expects(payload: bytes):
    for decode in (decode_record, decode_media):
        with pytest.raises((ValueError, KeyError, IndexError)):
            decode(payload)


def test_media_keep_their_original_bytes_beside_their_hash():
    data = picture(1)
    assert decode_media(encode_media(ref_of(data), data)) == (content_key(data), data)


def test_the_content_key_is_the_sha256_of_the_bytes():
    assert content_key(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_reject_is_one_line():
    assert Reject(3, "a\nb", "dead_link", "404", "http://h/é").to_json().splitlines() == [
        '{"row": 3, "id": "a\\nb", "reason": "dead_link", "detail": "404", "url": "http://h/é"}'
    ]
