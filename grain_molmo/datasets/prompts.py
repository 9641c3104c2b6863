"""Prompts of mathematics and code for reinforcement learning: text to answer, and what a reward function checks by."""

import hashlib
import json
import logging
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from grain_molmo.datasets.base import Dataset, Example, PathLike, require
from grain_molmo.datasets.json_lines import Builder, Fields, Line, LineSource, parse_line, shuffled_split
from grain_molmo.errors import ConfigError, ExampleError, StoreError
from grain_molmo.text.tokenizer import Tokenizer, load_tokenizer

logger = logging.getLogger(__name__)

TASKS = {"math": "solutions", "code": "input_output"}
"""Kinds of prompts, and the field that answers to each are checked by."""


class MathCodePrompts(Dataset):
    """Prompts of a JSONL file with `qid`, `prompt`, `task` and `solutions` (math) or `input_output` (code).

    An example is one user turn, for stages of kind "prompts"; its metadata has `id` (the `qid`), `source`, `split`,
    `task` and whatever else the line has. All lines are checked when the dataset is made; of a file, only the ids,
    and of each line where it begins and a checksum, stay in memory.

    Args:
        split: which of `splits`; without them, what these prompts are called.
        dataset_path: a file of one JSON object a line.
        dataset_builder: a function that returns such objects, instead of a file.
        max_length: longer prompts, in tokens of their text alone, are left out and counted.
        tokenizer: what `max_length` counts by, as `load_tokenizer` takes it.
        seed: of the order and of the splits, see `shuffled_split`.
        splits: share of each split, {"train": 0.9, "validation": 0.1}; default: all prompts are of this one.
        on_error: "raise" at the first line that is not as `check_prompt` wants it or has the `qid` of an earlier one,
            or "skip" and count it.

    Attributes:
        ids: of the examples, in their order.
        fingerprint: stands for the content of the file and all arguments that decide which prompts there are.
        skipped: lines left out, by reason: faulty ones of the whole file, `too_long` ones of this split.

    Raises:
        ConfigError: neither or both of path and function, arguments that do not go together, or no prompt left.
        ExampleError: a faulty line; the message names file, line and field.
    """

    NAME = "math_code"

    def __init__(
        self,
        split: str = "train",
        dataset_path: PathLike | None = None,
        dataset_builder: Builder | None = None,
        *,
        max_length: int | None = None,
        tokenizer: PathLike | Tokenizer | None = None,
        seed: int = 0,
        splits: Mapping[str, float] | None = None,
        on_error: str = "raise",
    ):
        require("on_error", on_error, ("raise", "skip"))
        if max_length is not None and tokenizer is None:
            raise ConfigError(f"max_length={max_length} is in tokens: pass tokenizer=..., the one of the model")
        limit = None if max_length is None or tokenizer is None else _Limit(max_length, load_tokenizer(tokenizer))
        source = LineSource(dataset_path, dataset_builder)
        scan = _scan(source, limit, on_error)
        chosen = shuffled_split(scan.ids, seed, split, splits)
        kept = [index for index in chosen if not scan.too_long[index]]
        self.ids = [scan.ids[index] for index in kept]
        self.split, self.skipped = split, scan.skipped + Counter(too_long=len(chosen) - len(kept))
        left_out = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items()) or "none"
        if not kept:
            raise ConfigError(f"{source.name}: split {split!r} has no prompt; left out: {left_out}")
        logger.info("%s, split %r: %d prompts; left out: %s", source.name, split, len(kept), left_out)
        self._lines = source.lines_at([scan.offsets[index] for index in kept])
        self._checksums_N = np.array([scan.checksums[index] for index in kept], np.uint32)
        arguments = (scan.digest, seed, split, sorted((splits or {}).items()), limit and limit.fingerprint)
        self.fingerprint = hashlib.sha256(repr(arguments).encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.ids)

    def get(self, item: int, rng: np.random.RandomState) -> Example:
        """Example `item`: one message, the user's; draws nothing.

        Raises StoreError if the file is no longer what it was when the dataset was made.
        """
        line = self._lines[item]
        if zlib.crc32(line.data) != self._checksums_N[item]:
            was = f"of prompt {self.ids[item]!r} is another line"
            raise StoreError(f"{line.where}: {was} since the dataset was made; open it again")
        fields = check_prompt(parse_line(line), line.where)
        qid, prompt = fields.pop("qid"), fields.pop("prompt")
        metadata = {**fields, "id": qid, "source": self.NAME, "split": self.split}
        return {"messages": [{"role": "user", "content": prompt}], "metadata": metadata}


class _Limit(NamedTuple):
    """How long a prompt may be."""

    max_length: int
    tokenizer: Tokenizer

    def exceeded_by(self, prompt: str) -> bool:
        return len(self.tokenizer.encode(prompt)) > self.max_length

    @property
    def fingerprint(self) -> tuple[int, str]:
        return self.max_length, self.tokenizer.fingerprint


@dataclass
class _Scan:
    """The prompts of a source that are as they should be, and what was left out of it."""

    ids: list[str]
    offsets: list[int]
    checksums: list[int]
    too_long: list[bool]
    skipped: Counter[str]
    digest: str


def _scan(lines: Iterable[Line], limit: _Limit | None, on_error: str) -> _Scan:
    """Reads all lines once. Raises ExampleError at the first faulty one unless they are skipped."""
    content, found = hashlib.sha256(), _Scan([], [], [], [], Counter(), "")
    first: set[str] = set()
    for line in lines:
        content.update(line.data)
        try:
            fields = check_prompt(parse_line(line), line.where)
            if fields["qid"] in first:
                raise ExampleError("duplicate_qid", f"{line.where}: qid {fields['qid']!r} is that of an earlier prompt")
        except ExampleError as error:
            if on_error == "raise":
                raise
            if error.reason not in found.skipped:
                logger.warning("prompt left out: %s (further cases of %r are counted)", error.detail, error.reason)
            found.skipped[error.reason] += 1
            continue
        first.add(fields["qid"])
        found.ids.append(fields["qid"])
        found.offsets.append(line.offset)
        found.checksums.append(zlib.crc32(line.data))
        found.too_long.append(limit is not None and limit.exceeded_by(fields["prompt"]))
    return replace(found, digest=content.hexdigest())


def check_prompt(fields: Mapping[str, Any], where: str) -> Fields:
    """The fields of a prompt, complete: `qid` and `task` are always there.

    Args:
        fields: `qid` (or `query_id`), `prompt`, `task` ("math" or "code"; if it is not there, the one that the other
            fields are of), for mathematics `solutions`, a list of strings, for code `input_output`, an object of two
            lists, `inputs` and `outputs`, or the JSON of one. Other fields stay as they are.
        where: they are from, for errors.

    Raises:
        ExampleError: `bad_qid`, `bad_prompt`, `bad_task`, `bad_solutions`, `bad_input_output`.
    """

    def refuse(field: str, problem: str) -> ExampleError:
        return ExampleError(f"bad_{field}", f"{where}: {field} {problem}")

    fields = dict(fields)
    qid = fields.pop("query_id", None) if "qid" not in fields else fields["qid"]
    if isinstance(qid, int) and not isinstance(qid, bool):
        qid = str(qid)
    if problem := _text_problem(qid):
        raise refuse("qid", f"{problem}; every prompt needs an id of its own")
    if problem := _text_problem(fields.get("prompt")):
        raise refuse("prompt", problem)
    task = fields.get("task")
    if task is None:
        given = [task for task, field in TASKS.items() if fields.get(field)]
        if len(given) != 1:
            raise refuse("task", "is missing, and solutions (math) or input_output (code) do not tell which it is")
        (task,) = given
    if task == "math":
        if problem := _solutions_problem(fields.get("solutions")):
            raise refuse("solutions", problem)
    elif task == "code":
        if problem := _tests_problem(fields.get("input_output")):
            raise refuse("input_output", problem)
    else:
        raise refuse("task", f"is {task!r}, it must be one of {', '.join(map(repr, TASKS))}")
    return {**fields, "qid": qid, "task": task}


def _text_problem(value: Any) -> str | None:
    """What keeps a value from being a text that is not blank."""
    if value is None:
        return "is missing"
    if not isinstance(value, str):
        return f"is {type(value).__name__}, it must be a string"
    if not value.strip():
        return "is empty"
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"has half of a character at {error.start}"
    return None


def _solutions_problem(value: Any) -> str | None:
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        return "of a math prompt must be a list of strings, at least one"
    return None


def _tests_problem(value: Any) -> str | None:
    try:
        tests = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        return f"is no JSON ({error})"
    inputs, outputs = (tests.get("inputs"), tests.get("outputs")) if isinstance(tests, Mapping) else (None, None)
    if not isinstance(inputs, list) or not isinstance(outputs, list) or not inputs:
        return "of a code prompt must be an object with the lists inputs and outputs, not empty, or its JSON"
    if len(inputs) != len(outputs):
        return f"has {len(inputs)} inputs and {len(outputs)} outputs, it must have as many of both"
    return None
