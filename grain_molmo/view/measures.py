"""The numbers that plots draw: plain functions of what a loader says, and a hook that keeps it batch by batch."""

import os
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from grain_molmo.datasets.base import Dataset
from grain_molmo.encode import Encoder
from grain_molmo.errors import ConfigError, ExampleError
from grain_molmo.packing.mixture import Draw
from grain_molmo.recipes import find_stage
from grain_molmo.render import ExampleInfo
from grain_molmo.rng import stable_hash
from grain_molmo.stage_changes import with_mixture
from grain_molmo.stage_data import open_to_evaluate
from grain_molmo.stages import Stage
from grain_molmo.stats import Seconds, limited_by
from grain_molmo.text.tokenizer import Tokenizer, load_tokenizer

_PREFIX, _PER_DATASET = "data/", "datasets/"
_FILLS = ("token_fill", "crop_fill")
_LEVELS = ("wait_share", "limited_by")


class History:
    """A hook for `make_loader(metrics=...)` that keeps what each batch came to.

    It holds 8 bytes a number and batch, some 100 numbers of a mixture of ten datasets. One serves any number of
    loaders, one after the other.

    >>> history = History()
    >>> history(0, {"data/rows": 2.0, "data/tokens": 90.0, "data/token_fill": 0.45})
    >>> history(1, {"data/rows": 4.0, "data/tokens": 190.0, "data/token_fill": 0.475})
    >>> history.of("tokens").tolist(), history.token_fill.round(3).tolist()
    ([90.0, 100.0], [0.45, 0.5])
    """

    def __init__(self) -> None:
        self._steps = array("q")
        self._columns: dict[str, array[float]] = {}
        self._last: dict[str, float] = {}

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        """Keeps a batch.

        Args:
            step: number of the batch.
            values: `Loader.stats()` by flat names, see `flat_metrics`: sums since the loader's first batch.
        """
        sums = _sums(values)
        if sums.get("rows", 0.0) <= self._last.get("rows", -1.0):
            self._last = {}  # another loader, which began at 0
        for name, total in sums.items():
            column = self._columns.setdefault(name, array("d"))
            column.extend([0.0] * (len(self) - len(column)))  # before it was first spoken of
            column.append(total - self._last.get(name, 0.0))
        self._steps.append(step)
        self._last = sums

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def steps(self) -> np.ndarray:
        """[N] int64, numbers of the batches, in the order in which they were handed out."""
        return np.array(self._steps, np.int64)

    @property
    def names(self) -> tuple[str, ...]:
        """What `of` knows: "tokens", "wait_s", "datasets/pixmo_cap/examples", ..."""
        return tuple(self._columns)

    def of(self, name: str) -> np.ndarray:
        """[N] float64, a number of `Loader.stats()` for each batch by itself; times are in seconds.

        Raises ConfigError for a name that no batch had.
        """
        if name not in self._columns:
            known = ", ".join(each for each in self.names if "/" not in each)
            raise ConfigError(f"the history has no {name!r}; it has {known or 'nothing yet'}, and more in `names`")
        column = self._columns[name]
        return np.concatenate([np.array(column), np.zeros(len(self) - len(column))])

    def by_dataset(self, name: str) -> dict[str, np.ndarray]:
        """[N] float64 by dataset, one number a batch.

        Args:
            name: "examples", "tokens", "loss_weight", "crops", "frames" or "read_bytes".
        """
        keys = [key for key in self.names if key.startswith(_PER_DATASET) and key.endswith(f"/{name}")]
        return {key.removeprefix(_PER_DATASET).rpartition("/")[0]: self.of(key) for key in keys}

    @property
    def token_fill(self) -> np.ndarray:
        """[N] float64, share of each batch's tokens that are no padding."""
        return self.of("token_fill") / self.of("rows")

    @property
    def crop_fill(self) -> np.ndarray:
        """[N] float64, share of each batch's crops that show something."""
        return self.of("crop_fill") / self.of("rows")

    def seconds(self, first: int = 1) -> Seconds:
        """Where the time of the batches from the `first` on went; nothing was prepared ahead of batch 0."""
        return Seconds(*(float(self.of(name)[first:].sum()) for name in Seconds._fields))


def _sums(values: Mapping[str, float]) -> dict[str, float]:
    """What adds up from batch to batch; of a fill that is the number of rows that would be full."""
    named = {name.removeprefix(_PREFIX): value for name, value in values.items()}
    sums = {name: value for name, value in named.items() if name.partition("/")[0] not in _LEVELS}
    return sums | {name: sums[name] * sums["rows"] for name in _FILLS if name in sums}


class SetLengths(NamedTuple):
    """How long examples of a dataset are.

    Attributes:
        tokens_N, crops_N: [N] int64, what each takes of a row.
        num_unusable: examples that were tried and cannot be encoded.
    """

    tokens_N: np.ndarray
    crops_N: np.ndarray
    num_unusable: int


def example_lengths(
    datasets: str | Dataset | Sequence[str | Dataset],
    stage: str | Stage = "sft",
    *,
    tokenizer: str | os.PathLike[str] | Tokenizer = "bytes",
    num_examples: int = 500,
    data_dir: str | os.PathLike[str] | None = None,
    split: str | None = None,
    seed: int = 0,
) -> dict[str, SetLengths]:
    """Lengths of examples by dataset, as a stage encodes them; no picture is opened.

    Args:
        datasets: a name, "name:split" or a dataset; or several.
        stage: "pretraining", "sft", "long_context", or a `Stage` (of any mixture).
        tokenizer: path of a tokenizer.json, hub name, "bytes", or a `Tokenizer`.
        num_examples: of each dataset at most, drawn at random; 0 for all.
        data_dir: where the converted ones are; default $GRAIN_MOLMO_DATA.
        split: of names that don't say one; default the stage's.
        seed: decides which examples, and their random choices.

    Raises:
        ConfigError: unknown names, stage or tokenizer.
        StoreError: a dataset was not converted into the folder.
    """
    given = find_stage(stage, None)
    opened, rules = open_to_evaluate(datasets, given, split or given.split, data_dir)
    chosen = with_mixture(given, dict.fromkeys(opened, 1.0), rules)
    encoder = Encoder(opened, chosen, load_tokenizer(tokenizer), seed)
    return {name: _lengths_of(encoder, name, num_examples) for name in opened}


def _lengths_of(encoder: Encoder, name: str, num_examples: int) -> SetLengths:
    total = len(encoder.datasets[name])
    rng = np.random.default_rng(stable_hash("lengths", encoder.seed, name))
    indices = rng.permutation(total)[: num_examples or total]
    found: list[tuple[int, int]] = []
    for index in indices.tolist():
        try:
            encoded = encoder(Draw(name, 0, index))
        except ExampleError:
            continue
        found.append((encoded.n_tokens, encoded.n_crops))
    tokens_N, crops_N = np.array(found, np.int64).reshape(-1, 2).T
    return SetLengths(tokens_N, crops_N, len(indices) - len(found))


class Share(NamedTuple):
    """A dataset's part of what was handed out, each from 0 to 1.

    Attributes:
        dataset: its name.
        planned: its weight in the mixture, by which examples are drawn.
        examples, tokens, loss_weight: of what was seen.
    """

    dataset: str
    planned: float
    examples: float
    tokens: float
    loss_weight: float


def shares(weights: Mapping[str, float], stats: Mapping[str, Any]) -> list[Share]:
    """Parts of the datasets, the largest planned one first.

    Args:
        weights: by dataset name, which sum to 1: `Loader.weights`.
        stats: what `Loader.stats()` says.

    >>> counts = {"examples": 3, "tokens": 30, "loss_weight": 2.0}
    >>> shares({"a": 1.0}, {"examples": 4, "tokens": 40, "loss_weight": 4.0, "datasets": {"a": counts}})
    [Share(dataset='a', planned=1.0, examples=0.75, tokens=0.75, loss_weight=0.5)]
    """
    seen = stats["datasets"]
    names = sorted({*weights, *seen}, key=lambda name: (-weights.get(name, 0.0), name))

    def share(name: str, what: str) -> float:
        return seen.get(name, {}).get(what, 0) / stats[what] if stats[what] else 0.0

    whats = ("examples", "tokens", "loss_weight")
    return [Share(name, weights.get(name, 0.0), *(share(name, what) for what in whats)) for name in names]


class Pace(NamedTuple):
    """What a stage of the pipeline could do if it never waited for another.

    Attributes:
        stage: "planning", "rendering" and its parts "encoding", "reading" and "decoding", "transfer", "the trainer".
        rows_per_s: infinite if it took no time.
        is_limit: whether it sets the pace, see `limited_by`.
    """

    stage: str
    rows_per_s: float
    is_limit: bool


PARTS_OF_RENDERING = ("encoding", "reading", "decoding")


def paces(rows: float, spent: Seconds) -> list[Pace]:
    """What each stage of the pipeline could do, in the order in which a batch goes through them.

    The parts of rendering work in the same threads; each is given the share of rendering's time that it has of their
    seconds.

    Args:
        rows: that were handed out.
        spent: where the time went meanwhile.
    """
    in_threads = dict(zip(PARTS_OF_RENDERING, (spent.encode_s, spent.read_s, spent.decode_s), strict=True))
    busy_s = sum(in_threads.values())
    seconds = {
        "planning": spent.plan_s,
        "rendering": spent.render_s,
        **{part: spent.render_s * part_s / busy_s if busy_s else 0.0 for part, part_s in in_threads.items()},
        "transfer": spent.transfer_s,
        "the trainer": spent.total_s - spent.wait_s,
    }
    limit = limited_by(spent)
    return [Pace(stage, rows / s if s > 0 else np.inf, stage == limit) for stage, s in seconds.items()]


class RowUse(NamedTuple):
    """How full rows are.

    Attributes:
        num_rows: of them.
        token_fill, crop_fill: shares of their budgets, from 0 to 1.
    """

    num_rows: int
    token_fill: float
    crop_fill: float


def row_use(rows: Sequence[Sequence[ExampleInfo]], stage: Stage) -> RowUse:
    """How full these rows are, of the stage's budgets."""
    examples = [example for row in rows for example in row]
    tokens = sum(example.tokens[1] - example.tokens[0] for example in examples)
    crops = sum(example.crops[1] - example.crops[0] for example in examples)
    count = max(1, len(rows))
    return RowUse(len(rows), tokens / (count * stage.seq_len), crops / (count * max(1, stage.crops_per_row)))


def one_a_row(rows: Sequence[Sequence[ExampleInfo]]) -> list[list[ExampleInfo]]:
    """The same examples without packing: each at the beginning of a row of its own, in the order of the rows."""
    return [[_at_the_beginning(example)] for row in rows for example in row]


def _at_the_beginning(example: ExampleInfo) -> ExampleInfo:
    def moved(span: tuple[int, int]) -> tuple[int, int]:
        return 0, span[1] - span[0]

    places = {"tokens": moved(example.tokens), "crops": moved(example.crops), "pooled": moved(example.pooled)}
    return replace(example, segment=1, **places)
