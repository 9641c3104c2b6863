import gzip
import json
import logging
import math
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

import grain_molmo as gm
from grain_molmo.curriculum import example_ids
from grain_molmo.datasets.base import content_fingerprint
from grain_molmo.datasets.json_lines import DatasetUtility, load_shuffle_split_dataset, shuffled_split
from grain_molmo.datasets.prompts import MathCodePrompts, check_prompt
from grain_molmo.errors import ConfigError, ExampleError, StoreError

MATH = {"qid": "m1", "prompt": "Solve: 2+2=", "task": "math", "solutions": ["\\boxed{4}"]}
TESTS = json.dumps({"inputs": ["5\n2 3\n"], "outputs": ["17\n"]})
CODE = {"qid": "c1", "prompt": "Add the numbers.", "task": "code", "input_output": TESTS}


def numbered(count):
    return [{**MATH, "qid": f"q{number}", "prompt": f"What is {number}?"} for number in range(count)]


def write(path, *items, ending="\n"):
    lines = [item if isinstance(item, bytes) else json.dumps(item).encode() for item in items]
    path.write_bytes(b"".join(line + ending.encode() for line in lines))
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "prompts.jsonl", MATH, CODE)


def test_a_prompt_is_one_user_turn_with_what_a_reward_function_needs(path):
    by_id = {example["metadata"]["id"]: example for example in MathCodePrompts(dataset_path=path)}
    assert by_id["m1"] == {
        "messages": [{"role": "user", "content": "Solve: 2+2="}],
        "metadata": {
            "id": "m1", "source": "math_code", "split": "train", "task": "math", "solutions": ["\\boxed{4}"],
        },
    }  # fmt: skip
    assert by_id["c1"]["metadata"]["input_output"] == TESTS


def test_it_is_registered_and_says_what_it_needs(path):
    assert len(gm.get_dataset("math-code", dataset_path=path)) == 2
    with pytest.raises(ConfigError, match="either dataset_path, a file of one JSON object a line, or dataset_builder"):
        gm.get_dataset("math_code")
    with pytest.raises(ConfigError, match="either dataset_path"):
        MathCodePrompts(dataset_path=path, dataset_builder=list)


def test_a_function_gives_the_same_examples_as_a_file(path):
    built = MathCodePrompts(dataset_builder=lambda: [MATH, CODE])
    assert [*built] == [*MathCodePrompts(dataset_path=path)]
    assert [*pickle.loads(pickle.dumps(built))] == [*built]  # the function itself does not travel


def test_what_a_function_returns_may_be_changed_by_nobody_afterwards():
    given = [{**MATH, "solutions": ["4"]}]
    dataset = MathCodePrompts(dataset_builder=lambda: given)
    given[0]["solutions"].append("5")
    dataset[0]["metadata"]["solutions"].append("6")
    assert dataset[0]["metadata"]["solutions"] == ["4"]


def test_items_that_are_not_json_are_refused():
    with pytest.raises(ConfigError, match="dataset_builder item 1 cannot be written as JSON"):
        MathCodePrompts(dataset_builder=lambda: [MATH, {**CODE, "score": {1, 2}}], on_error="skip")


def test_a_number_that_is_none_is_kept_from_a_file_and_from_a_function(tmp_path):
    row = {**MATH, "score": math.nan}  # as tables have where nothing was said
    for dataset in (
        MathCodePrompts(dataset_builder=lambda: [row]),
        MathCodePrompts(dataset_path=write(tmp_path / "a.jsonl", row)),
    ):
        assert math.isnan(dataset[0]["metadata"]["score"])


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_compressed_file_is_refused_with_what_to_do(tmp_path, on_error):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(json.dumps(MATH).encode()))
    with pytest.raises(ConfigError, match=r"a.jsonl.gz is compressed; unpack it"):
        MathCodePrompts(dataset_path=tmp_path / "a.jsonl.gz", on_error=on_error)


def test_other_fields_of_a_line_are_kept_beside():
    dataset = MathCodePrompts(dataset_builder=lambda: [{**MATH, "level": 3, "split": "mine"}])
    assert dataset[0]["metadata"]["level"] == 3
    assert dataset[0]["metadata"]["split"] == "train"


def test_the_task_is_that_of_the_field_that_is_there():
    def tasks(*items):
        return [example["metadata"]["task"] for example in MathCodePrompts(dataset_builder=lambda: items)]

    assert tasks({**MATH, "task": None}) == ["math"]
    assert tasks({key: value for key, value in CODE.items() if key != "task"}) == ["code"]
    assert tasks({**MATH, "task": None, "input_output": ""}) == ["math"]


def test_ids_may_be_numbers_or_go_by_their_other_name():
    items = [{**MATH, "qid": 7}, {key: value for key, value in {**CODE, "query_id": "c9"}.items() if key != "qid"}]
    assert set(MathCodePrompts(dataset_builder=lambda: items).ids) == {"7", "c9"}


FAULTS = {
    "missing id": ({"qid": None}, "bad_qid", "qid is missing; every prompt needs an id of its own"),
    "true for an id": ({"qid": True}, "bad_qid", "qid is bool, it must be a string"),
    "empty id": ({"qid": " "}, "bad_qid", "qid is empty"),
    "missing prompt": ({"prompt": None}, "bad_prompt", "prompt is missing"),
    "prompt in turns": ({"prompt": ["a"]}, "bad_prompt", "prompt is list, it must be a string"),
    "blank prompt": ({"prompt": "\n"}, "bad_prompt", "prompt is empty"),
    "half a character": ({"prompt": "a\ud800"}, "bad_prompt", "prompt has half of a character at 1"),
    "unknown task": ({"task": "poetry"}, "bad_task", "task is 'poetry', it must be one of 'math', 'code'"),
    "no hint of the task": ({"task": None, "solutions": []}, "bad_task", "task is missing, and"),
    "both hints of a task": ({"task": None, "input_output": TESTS}, "bad_task", "task is missing, and"),
    "no solutions": ({"solutions": []}, "bad_solutions", "solutions of a math prompt must be a list of strings"),
    "one solution bare": ({"solutions": "4"}, "bad_solutions", "solutions of a math prompt must be a list"),
    "a number as solution": ({"solutions": [4]}, "bad_solutions", "solutions of a math prompt must be a list"),
    "no tests": ({"task": "code"}, "bad_input_output", "input_output of a code prompt must be an object"),
    "torn tests": ({"task": "code", "input_output": "{"}, "bad_input_output", "input_output is no JSON"),
    "tests as a list": ({"task": "code", "input_output": "[]"}, "bad_input_output", "must be an object with the lists"),
    "no outputs": ({"task": "code", "input_output": {"inputs": ["1"]}}, "bad_input_output", "inputs and outputs"),
    "no test at all": (
        {"task": "code", "input_output": {"inputs": [], "outputs": []}}, "bad_input_output", "not empty",
    ),
    "uneven tests": (
        {"task": "code", "input_output": {"inputs": ["1", "2"], "outputs": ["1"]}},
        "bad_input_output", "has 2 inputs and 1 outputs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_line_is_named_with_file_line_and_field(fault, tmp_path):
    change, reason, problem = FAULTS[fault]
    path = write(tmp_path / "prompts.jsonl", CODE, {**MATH, **change})
    with pytest.raises(ExampleError) as caught:
        MathCodePrompts(dataset_path=path)
    assert caught.value.reason == reason
    assert caught.value.detail.startswith(f"{path} line 2: ")
    assert problem in caught.value.detail


@pytest.mark.parametrize("line", [b"{", b"[]", b'"text"', b"\xff\xfe", b"[" * 100_000])
def test_a_line_that_is_no_object_is_named(line, tmp_path):
    path = write(tmp_path / "prompts.jsonl", MATH, line)
    with pytest.raises(ExampleError, match=r"bad_json: .*prompts.jsonl line 2: is "):
        MathCodePrompts(dataset_path=path)


def test_two_prompts_of_one_id_are_refused():
    with pytest.raises(ExampleError, match="dataset_builder item 1: qid 'm1' is that of an earlier prompt"):
        MathCodePrompts(dataset_builder=lambda: [MATH, {**CODE, "qid": "m1"}])


def test_faulty_lines_are_skipped_counted_and_named_once_where_asked(tmp_path, caplog):
    items = [b"{", MATH, {**CODE, "prompt": ""}, {**MATH, "prompt": "again"}, {**CODE, "prompt": " "}, CODE]
    dataset = MathCodePrompts(dataset_path=write(tmp_path / "prompts.jsonl", *items), on_error="skip")
    assert sorted(dataset.ids) == ["c1", "m1"]
    assert dataset.skipped == {"bad_json": 1, "bad_prompt": 2, "duplicate_qid": 1}
    assert dataset[dataset.ids.index("m1")]["messages"][0]["content"] == "Solve: 2+2="  # the first stays
    warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert [word in line for word, line in zip(["line 1", "line 3", "line 4"], warned, strict=True)] == [True] * 3
    with pytest.raises(ConfigError, match="has no prompt; left out: 1 bad_json"):
        MathCodePrompts(dataset_path=write(tmp_path / "none.jsonl", b"{"), on_error="skip")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n\n  \n"])
def test_line_ends_blank_lines_and_a_byte_order_mark_do_not_matter(ending, tmp_path):
    path = write(tmp_path / "prompts.jsonl", b"\xef\xbb\xbf" + json.dumps(MATH).encode(), CODE, ending=ending)
    path.write_bytes(path.read_bytes().rstrip())
    assert sorted(MathCodePrompts(dataset_path=path).ids) == ["c1", "m1"]


def test_prompts_longer_than_asked_are_left_out_and_counted(caplog):
    items = [{**MATH, "qid": str(length), "prompt": "é" * length} for length in range(1, 9)]
    with caplog.at_level(logging.INFO):
        dataset = MathCodePrompts(dataset_builder=lambda: items, max_length=8, tokenizer="bytes")
    assert sorted(dataset.ids) == ["1", "2", "3", "4"]  # two bytes each
    assert dataset.skipped == {"too_long": 4}
    assert "4 prompts; left out: 4 too_long" in caplog.text
    with pytest.raises(ConfigError, match="max_length=8 is in tokens"):
        MathCodePrompts(dataset_builder=lambda: items, max_length=8)


def test_a_length_limit_moves_no_prompt_to_another_split():
    def ids(split, **limit):
        splits = {"train": 0.5, "validation": 0.5}
        return MathCodePrompts(split, dataset_builder=lambda: items, seed=3, splits=splits, **limit).ids

    items = [{**MATH, "qid": str(number), "prompt": "x" * (number % 7 + 1)} for number in range(60)]
    for split in ("train", "validation"):
        kept = [qid for qid in ids(split) if int(qid) % 7 < 4]
        assert ids(split, max_length=4, tokenizer="bytes") == kept


def test_splits_share_out_all_prompts_by_the_seed(tmp_path):
    path = write(tmp_path / "prompts.jsonl", *numbered(50))
    splits = {"train": 0.9, "validation": 0.1}

    def ids(split, seed):
        return MathCodePrompts(split, path, seed=seed, splits=splits).ids

    train, validation = ids("train", 1), ids("validation", 1)
    assert (len(train), len(validation)) == (45, 5)
    assert set(train) | set(validation) == {f"q{number}" for number in range(50)}
    assert ids("validation", 1) == validation != ids("validation", 2)
    assert sorted(train) != train


@given(st.lists(st.text(max_size=3), unique=True, max_size=40), st.integers(0, 2**63), st.randoms())
def test_the_order_of_a_file_does_not_matter(ids, seed, random):
    moved = random.sample(ids, len(ids))
    in_order = [ids[index] for index in shuffled_split(ids, seed)]
    assert [moved[index] for index in shuffled_split(moved, seed)] == in_order
    assert sorted(in_order) == sorted(ids)


@given(st.integers(0, 200), st.lists(st.integers(1, 10), min_size=1, max_size=5))
def test_splits_do_not_overlap_and_have_their_share(count, parts):
    splits = {f"part{number}": part / sum(parts) for number, part in enumerate(parts)}
    found = [shuffled_split([*map(str, range(count))], 0, split, splits) for split in splits]
    assert sorted(index for indices in found for index in indices) == [*range(count)]
    assert all(abs(len(each) - count * share) <= 1 for each, share in zip(found, splits.values(), strict=True))


def test_added_prompts_leave_nearly_all_others_in_their_split():
    splits = {"train": 0.9, "validation": 0.1}
    before, after = ([*map(str, range(count))] for count in (1000, 1010))
    validation = [{ids[index] for index in shuffled_split(ids, 0, "validation", splits)} for ids in (before, after)]
    assert len(validation[0] - validation[1]) <= 2


@pytest.mark.parametrize("splits", [{"train": 1.1}, {"train": 0}, {"train": -0.5}, {"train": 0.6, "test": 0.6}])
def test_shares_that_are_none_are_refused(splits):
    with pytest.raises(ConfigError, match="shares must be positive and sum to at most 1"):
        MathCodePrompts(dataset_builder=lambda: [MATH], splits=splits)


def test_a_split_that_is_not_among_them_is_named():
    with pytest.raises(ConfigError, match=r"split='test': splits=\{'train': 1.0\} has no such part"):
        MathCodePrompts("test", dataset_builder=lambda: [MATH], splits={"train": 1.0})


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"dataset_path .*none.jsonl cannot be read \(No such file"):
        MathCodePrompts(dataset_path=tmp_path / "none.jsonl")


def test_a_file_that_changed_is_found_out_when_it_is_read(tmp_path):
    path = write(tmp_path / "prompts.jsonl", MATH)
    dataset = MathCodePrompts(dataset_path=path)
    write(path, {**MATH, "qid": "m2"})
    with pytest.raises(StoreError, match=r"at byte 0: of prompt 'm1' is another line since the dataset was made"):
        dataset[0]
    write(path, {**MATH, "prompt": MATH["prompt"][::-1]})
    with pytest.raises(StoreError, match="is another line"):
        dataset[0]
    path.write_bytes(b"")
    with pytest.raises(StoreError, match="is another line"):
        dataset[0]
    path.unlink()
    with pytest.raises(StoreError, match=r"prompts.jsonl cannot be read any more"):
        dataset[0]


def test_texts_are_read_from_the_file_and_not_kept(tmp_path):
    path = write(tmp_path / "prompts.jsonl", *({**MATH, "qid": str(n), "prompt": "x" * 10_000} for n in range(50)))
    pickled = pickle.dumps(MathCodePrompts(dataset_path=path))
    assert len(pickled) < 5_000  # of half a megabyte of prompts
    assert len({example["metadata"]["id"] for example in pickle.loads(pickled)}) == 50


def test_a_relative_path_holds_wherever_the_process_goes(tmp_path, monkeypatch):
    write(tmp_path / "prompts.jsonl", MATH)
    monkeypatch.chdir(tmp_path)
    dataset = MathCodePrompts(dataset_path="prompts.jsonl")
    monkeypatch.chdir("/")
    assert dataset[0]["metadata"]["id"] == "m1"


def test_many_threads_read_what_one_does(tmp_path):
    dataset = MathCodePrompts(dataset_path=write(tmp_path / "prompts.jsonl", *numbered(200)))
    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(dataset.__getitem__, range(200))] == [*dataset]


def test_its_ids_are_those_of_its_examples(path):
    dataset = MathCodePrompts(dataset_path=path)
    assert example_ids(dataset) == dataset.ids == [example["metadata"]["id"] for example in dataset]


def test_the_fingerprint_is_of_the_content_and_the_arguments_not_of_the_place(path, tmp_path):
    def fingerprint(path=path, **arguments):
        return content_fingerprint(MathCodePrompts(dataset_path=path, **arguments))

    assert fingerprint() == fingerprint(write(tmp_path / "copy.jsonl", MATH, CODE))
    others = [
        fingerprint(write(tmp_path / "other.jsonl", MATH, {**CODE, "prompt": "?"})),
        fingerprint(seed=1),
        fingerprint(split="validation"),
        fingerprint(splits={"train": 1.0}),
        fingerprint(max_length=100, tokenizer="bytes"),
        fingerprint(max_length=101, tokenizer="bytes"),
    ]
    assert len({fingerprint(), *others}) == 7


def test_checking_a_prompt_changes_nothing_of_it():
    fields = {**CODE, "task": None}
    assert check_prompt(fields, "here") == CODE
    assert fields["task"] is None


def test_any_objects_are_loaded_shuffled_and_split(tmp_path):
    items = [{"id": number, "text": "any"} for number in range(40)]
    path = write(tmp_path / "any.jsonl", *items)
    util = DatasetUtility(seed=5)
    loaded = load_shuffle_split_dataset(util, path)
    assert loaded == load_shuffle_split_dataset(util, dataset_builder=lambda: items) != items
    assert sorted(item["id"] for item in loaded) == [*range(40)]
    assert load_shuffle_split_dataset(DatasetUtility(seed=6), path) != loaded
    halves = [load_shuffle_split_dataset(util, path, split=half, splits={"a": 0.5, "b": 0.5}) for half in "ab"]
    assert halves[0] + halves[1] == loaded
    with pytest.raises(ExampleError, match="line 1: is list, it must be an object"):
        load_shuffle_split_dataset(util, write(tmp_path / "lists.jsonl", []))


def test_what_it_is_made_with_has_a_tokenizer_by_name_or_as_it_is():
    util = DatasetUtility(tokenizer="bytes")
    assert util.tokenizer.encode("ab") == [97, 98]
    assert DatasetUtility(tokenizer=util.tokenizer).tokenizer is util.tokenizer
    assert pickle.loads(pickle.dumps(util)).tokenizer.fingerprint == util.tokenizer.fingerprint
