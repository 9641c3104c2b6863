import gzip
import json
import pickle
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

from grain_molmo.errors import ConfigError
from grain_molmo.special_tokens import IM_PATCH, IMAGE, SPECIAL_TOKENS
from grain_molmo.text.tokenizer import load_tokenizer

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture(scope="module")
def qwen3(qwen3_tokenizer_path):
    return load_tokenizer(qwen3_tokenizer_path)


@pytest.fixture
def write_tokenizer(tmp_path):
    """Writes a small word-level tokenizer.json with the given control tokens and returns its path."""

    def write(control_tokens, vocab=("a", "b", "[UNK]")):
        backend = Backend(models.WordLevel({word: i for i, word in enumerate(vocab)}, unk_token="[UNK]"))
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
        backend.add_special_tokens(list(control_tokens))
        path = tmp_path / "tokenizer.json"
        backend.save(str(path))
        return path

    return write


def test_qwen3_special_tokens_have_the_published_ids(qwen3):
    assert [qwen3.encode(token) for token in SPECIAL_TOKENS] == [[i] for i in range(151936, 151950)]
    assert qwen3.special_id(IM_PATCH) == 151938
    assert (qwen3.bos_id, qwen3.eos_id, qwen3.pad_id) == (151645, 151645, 151643)
    assert qwen3.vocab_size == 151950


def test_control_strings_in_text_become_their_ids(qwen3):
    assert qwen3.encode("<|im_start|>user\nhi<|im_end|>") == [151644, 872, 198, 6023, 151645]
    assert qwen3.encode("<|image|>") == [151936 + IMAGE]


@given(TEXT)
def test_bytes_round_trip_any_text(text):
    tokenizer = load_tokenizer("bytes")
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(text=TEXT)
def test_qwen3_round_trips_any_text_up_to_unicode_normalisation(qwen3, text):
    assert qwen3.decode(qwen3.encode(text)) == unicodedata.normalize("NFC", text)


def test_bytes_ids_are_the_bytes_then_control_then_special_tokens():
    tokenizer = load_tokenizer("bytes")
    assert tokenizer.encode("aé\n\x00") == [97, 0xC3, 0xA9, 10, 0]
    assert tokenizer.encode("<|endoftext|><|im_start|><|im_end|><im_start>") == [256, 257, 258, 259]
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (258, 258, 256)
    assert (tokenizer.special_base, tokenizer.vocab_size) == (259, 273)


def test_a_pickled_tokenizer_encodes_alike_and_keeps_its_fingerprint():
    tokenizer = load_tokenizer("bytes")
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.encode("x<im_patch>") == tokenizer.encode("x<im_patch>")
    assert copy.fingerprint == tokenizer.fingerprint
    assert (copy.special_base, copy.eos_id) == (tokenizer.special_base, tokenizer.eos_id)


def test_the_fingerprint_is_the_same_in_another_process():
    code = "from grain_molmo.text.tokenizer import load_tokenizer; print(load_tokenizer('bytes').fingerprint)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == load_tokenizer("bytes").fingerprint


def test_the_fingerprint_tells_apart_what_encodes_differently(write_tokenizer):
    path = write_tokenizer(["</s>"])
    assert load_tokenizer(path).fingerprint != load_tokenizer(path, special_base=50).fingerprint


def test_a_folder_and_a_compressed_file_load_like_the_file(write_tokenizer, tmp_path):
    path = write_tokenizer(["</s>"])
    folder = tmp_path / "compressed"
    folder.mkdir()
    (folder / "tokenizer.json.gz").write_bytes(gzip.compress(path.read_bytes()))
    fingerprints = {load_tokenizer(p).fingerprint for p in (path, str(tmp_path), folder, folder / "tokenizer.json.gz")}
    assert len(fingerprints) == 1


@pytest.mark.parametrize("eos", ["<|endoftext|>", "</s>", "<eos>"])
def test_without_chat_tokens_the_usual_end_of_text_ends_answers_and_specials_follow_the_vocabulary(
    write_tokenizer, eos
):
    tokenizer = load_tokenizer(write_tokenizer([eos]))
    assert tokenizer.eos_id == tokenizer.bos_id == tokenizer.pad_id == 3
    assert tokenizer.special_base == 4
    assert tokenizer.decode(tokenizer.encode("a <im_patch>")).endswith("<im_patch>")


def test_a_beginning_of_text_of_its_own_is_used(write_tokenizer):
    tokenizer = load_tokenizer(write_tokenizer(["<s>", "</s>", "<pad>"]))
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (3, 4, 5)


def test_an_ordinary_word_that_looks_like_a_control_token_is_not_one(write_tokenizer):
    tokenizer = load_tokenizer(write_tokenizer(["</s>"], vocab=("<s>", "[UNK]")))
    assert tokenizer.bos_id == tokenizer.eos_id == 2


def test_chat_tokens_alone_do_not_make_a_vocabulary_qwen3(write_tokenizer):
    tokenizer = load_tokenizer(write_tokenizer(["<|im_start|>", "<|im_end|>"]))
    assert (tokenizer.eos_id, tokenizer.special_base) == (4, 5)


def test_a_special_base_leaves_room_for_the_embedding_matrix(write_tokenizer):
    tokenizer = load_tokenizer(write_tokenizer(["</s>"]), special_base=100)
    assert tokenizer.encode("<im_start>") == [100]
    assert tokenizer.vocab_size == 114


def test_special_tokens_that_the_file_has_keep_their_ids(write_tokenizer):
    fillers = [f"unused{i}" for i in range(6)]
    tokenizer = load_tokenizer(write_tokenizer(["</s>", *fillers, *SPECIAL_TOKENS[:10]]))
    assert tokenizer.special_base == 10
    assert tokenizer.encode("<im_start> <|vit_loc|>") == [10, 23]


@pytest.mark.parametrize(
    ("control_tokens", "arguments", "message"),
    [
        ([], {}, "eos_token="),
        (["</s>"], {"eos_token": "<stop>"}, "<stop>"),
        (["</s>"], {"special_base": 2}, "at least 4"),
        (["</s>", "<|image|>"], {}, r"<\|image\|> has id 4"),
        (["</s>", "<im_start>"], {"special_base": 50}, "<im_start> has id 4"),
    ],
)
def test_a_vocabulary_that_cannot_work_is_refused_with_the_way_out(write_tokenizer, control_tokens, arguments, message):
    with pytest.raises(ConfigError, match=message):
        load_tokenizer(write_tokenizer(control_tokens), **arguments)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x1f\x8bnot gzip", b"\xff\xfe", json.dumps([1]).encode()])
def test_a_file_that_is_no_tokenizer_is_refused_by_name(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"tokenizer\.json: not a tokenizer"):
        load_tokenizer(path)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_a_name_that_neither_disk_nor_hub_knows_is_refused():
    with pytest.raises(ConfigError, match="no such file here"):
        load_tokenizer("not/a/hub/name")


def test_a_loaded_tokenizer_passes_through():
    tokenizer = load_tokenizer("bytes")
    assert load_tokenizer(tokenizer) is tokenizer
    with pytest.raises(ConfigError, match="path or name"):
        load_tokenizer(tokenizer, special_base=1)


@given(
    st.lists(st.sampled_from([*SPECIAL_TOKENS, "<|im_start|>", "<|im_end|>", "<", "im_", "|", "é", "🦝", " ", "\0"]))
)
def test_bytes_are_ids_as_the_library_would_give_them(parts):
    text, built_in = "".join(parts), load_tokenizer("bytes")
    assert built_in.encode(text) == built_in._backend.encode(text, add_special_tokens=False).ids
