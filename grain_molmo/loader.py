"""From converted datasets to packed training batches.

The flow, each step a thing that can be used on its own:

    datasets ─▶ MixedStream ─▶ ExamplePlanner ─▶ PackedRows ─▶ Renderer ─────▶ Transfer
    examples    which comes     lengths, known    rows, global   tokens and      jax.Arrays
    at random   n-th            or by encoding    batches        pixels of own   on a mesh
                                                                 rows

For probes a FeatureReader takes the place of tokens and pixels, and each row is one example. For evaluation EachOnce
takes the place of the stream and its packing: every example once, one a row.
"""

import logging
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax

from grain_molmo.batches import EvalLoader, Loader, Work
from grain_molmo.curriculum import Curriculum
from grain_molmo.curriculum_filter import CurriculumFilter
from grain_molmo.datasets.base import Dataset
from grain_molmo.encode import Encoder, Lengths
from grain_molmo.errors import ConfigError
from grain_molmo.eval_plan import EachOnce
from grain_molmo.faults import FaultPolicy
from grain_molmo.feature_batches import FeatureReader, FeatureRows
from grain_molmo.layout import RowLayout
from grain_molmo.lengths import LengthIndex
from grain_molmo.mesh import ProcessPart, context_size
from grain_molmo.packing.mixture import Draw, log_mixture
from grain_molmo.packing.rows import PackedRows
from grain_molmo.pipeline import TokenRows
from grain_molmo.planned import ExamplePlanner, encode_or_lose
from grain_molmo.recipes import find_stage
from grain_molmo.stage_changes import customized, with_mixture
from grain_molmo.stage_data import open_datasets, open_to_evaluate, plan_phases
from grain_molmo.stages import Paths, Stage
from grain_molmo.text.tokenizer import DEFAULT_TOKENIZER, Tokenizer, load_tokenizer

logger = logging.getLogger(__name__)


def make_loader(
    stage: str | Stage = "pretraining",
    *,
    data_dir: str | os.PathLike[str] | None = None,
    tokenizer: str | os.PathLike[str] | Tokenizer = DEFAULT_TOKENIZER,
    batch_size: int | None = None,
    seq_len: int | None = None,
    max_frames: int | None = None,
    seed: int = 0,
    recipe: str | None = None,
    mesh: jax.sharding.Mesh | None = None,
    process_index: int | None = None,
    process_count: int | None = None,
    num_threads: int | None = None,
    length_index: bool = True,
    policy: FaultPolicy | None = None,
    exclude: Paths = (),
    metrics: Callable[[int, dict[str, float]], None] | None = None,
    datasets: Mapping[str, Dataset] | None = None,
    curriculum: Curriculum | Mapping[str, Curriculum] | None = None,
) -> Loader:
    """A loader of packed, mixed, deterministic batches.

    Args:
        stage: "pretraining", "sft", "long_context", or a `Stage`.
        data_dir: where the datasets were converted to; default $GRAIN_MOLMO_DATA.
        tokenizer: path of a tokenizer.json, hub name, "bytes" (built in), or a `Tokenizer`.
        batch_size: rows of the global batch; default the stage's.
        seq_len: tokens a row; default the stage's.
        max_frames: frames that a video is shown in at most; default the stage's. A row gets room for at least as many
            crops.
        seed: decides order, mixture and all random choices.
        recipe: "molmo2" for the published mixture, lengths and batch size of that stage. Sets of it that are unknown
            or not converted are named in a warning and in `missing_datasets`; the others share their part.
        mesh: makes each array of a batch a global `jax.Array`, rows sharded over its axes "data" and "fsdp" (without
            either, over its first), each row over "context", see `RowLayout`; of each batch this process renders what
            its devices need.
        process_index, process_count: without a mesh, which contiguous slice of each global batch is rendered here;
            default JAX's.
        num_threads: pictures or videos decoded at a time; default the machine's cores, at most 16.
        length_index: plan by the lengths that `grain-molmo index` found, where there are some for just this stage,
            data, tokenizer and seed, instead of encoding every example of the global batch. The batches are the same.
        policy: what to do about examples that cannot be used; default: leave them out or blank, and count them.
        exclude: quarantine files of such a policy: the examples that they list are left out of the plan from the start;
            from a later step on, see `Phase`.
        metrics: called after each batch with its step and the numbers of `stats()` by flat names: `flat_metrics`. What
            it raises comes out of `next`; the one after it gives the same batch, counted once more.
        datasets: datasets of the mixture as they are, by name, instead of those that are registered.
        curriculum: when `Loader.filter` takes examples out, for all datasets or by name.

    Returns:
        An endless iterator of batches; see `render_rows` for shapes and dtypes. A stage of kind "prompts" has the same
        arrays with nothing to learn, one of kind "features" those of `FeatureRows`.

    Raises:
        ConfigError: unknown names, weights, sizes or tokenizer.
        StoreError: a dataset was not converted into the folder, or a shard is missing.

    The loader raises what its policy says: see `FaultWatch.check`.
    """
    chosen = customized(find_stage(stage, recipe), batch_size=batch_size, seq_len=seq_len, max_frames=max_frames)
    seed = _whole_seed(seed)
    policy = policy or FaultPolicy()
    if policy.quarantine is not None and policy.quarantine in (
        [exclude] if isinstance(exclude, str | os.PathLike) else exclude
    ):
        raise ConfigError(
            f"{policy.quarantine} is excluded and added to, the plan would change with it: give two files"
        )
    opened, missing = open_datasets(chosen, data_dir, datasets)
    sizes = {name: len(dataset) for name, dataset in opened.items()}
    phases = plan_phases(chosen, opened, exclude)
    for phase in phases:
        log_mixture(phase.weights, sizes, phase.step)
    batches = {"batch_size": chosen.batch_size, "max_skipped_in_a_row": policy.max_in_a_row}
    if chosen.kind == "features":
        layout, reader = None, FeatureReader.of(opened, chosen, seed)
        rows = FeatureRows(reader)
        plan = PackedRows(phases, sizes, seed, reader.plan, max_tokens=1, max_crops=0, waiting=1, **batches)
    else:
        reader = Encoder(opened, chosen, load_tokenizer(tokenizer), seed)
        planner = ExamplePlanner(reader, _known_lengths(data_dir, reader) if length_index else None)
        layout = RowLayout.of(chosen, context_size(mesh))
        rows = TokenRows(planner.encode, chosen, layout)
        budgets = {"max_tokens": chosen.seq_len, "max_crops": chosen.crops_per_row, "waiting": chosen.waiting}
        plan = PackedRows(phases, sizes, seed, planner, **budgets, **batches)
    process = _process(process_index, process_count)
    work = Work(
        plan,
        reader,
        rows,
        layout,
        _own_part(chosen.batch_size, mesh, *process),
        process,
        mesh=mesh,
        curriculum=None if curriculum is None else CurriculumFilter.of(plan, opened, curriculum),
        missing_datasets=missing,
    )
    return Loader(work, num_threads=num_threads or _cores(), policy=policy, metrics=metrics)


def make_eval_loader(
    dataset: str | Dataset | Sequence[str | Dataset],
    *,
    batch_size: int,
    split: str | None = None,
    stage: str | Stage = "sft",
    kind: str = "prompts",
    data_dir: str | os.PathLike[str] | None = None,
    tokenizer: str | os.PathLike[str] | Tokenizer = DEFAULT_TOKENIZER,
    seq_len: int | None = None,
    max_frames: int | None = None,
    seed: int = 0,
    mesh: jax.sharding.Mesh | None = None,
    process_index: int | None = None,
    process_count: int | None = None,
    num_threads: int | None = None,
    policy: FaultPolicy | None = None,
    metrics: Callable[[int, dict[str, float]], None] | None = None,
) -> EvalLoader:
    """A loader of every example once, in order, one a row; the last batch is filled with empty rows.

    Row i of batch s is example `s * batch_size + i` of the datasets, on any number of hosts. Batches have the arrays of
    `make_loader`, and `valid` [B] bool: whether the row holds an example that can be used. One that cannot keeps its
    row, and `batch_info` says why; it also has ids and metadata, and the tokens' place in their row. Nothing varies as
    it does in training; what is drawn depends on the seed, the dataset and the index.

    Args:
        dataset: a name, "name:split" or a dataset; or several, one after the other.
        batch_size: rows of the global batch; it must divide among the processes or the mesh's devices.
        split: of names that don't say one; default "validation", or "test" of a set without that.
        stage: whose lengths and formats apply: "pretraining", "sft", "long_context", or a `Stage` (of any mixture).
        kind: "prompts" to have a model answer, "train" to measure the loss of the answers, "features" for probes.
        data_dir, tokenizer, seq_len, max_frames, seed, mesh: as of `make_loader`.
        process_index, process_count, num_threads, policy, metrics: as of `make_loader`.

    Raises:
        ConfigError: unknown names, no examples, sizes that don't fit.
        StoreError: a dataset was not converted into the folder, or a shard is missing.
    """
    given = find_stage(stage, None)
    opened, rules = open_to_evaluate(dataset, given, split, data_dir)
    sizes = {name: len(one) for name, one in opened.items()}
    once = replace(with_mixture(given, dict.fromkeys(opened, 1.0), rules), kind=kind)
    chosen = customized(once, batch_size=batch_size, seq_len=seq_len, max_frames=max_frames)
    seed = _whole_seed(seed)
    if chosen.kind == "features":
        layout, reader = None, FeatureReader.of(opened, chosen, seed, training=False)
        rows = FeatureRows(reader)
    else:
        layout = RowLayout.of(chosen, context_size(mesh))
        reader = Encoder(opened, chosen, load_tokenizer(tokenizer), seed, training=False)
        rows = TokenRows(encode_or_lose(reader), chosen, layout)
    process = _process(process_index, process_count)
    part = _own_part(batch_size, mesh, *process)
    if mesh is not None and len(part.shards) < context_size(mesh):
        raise ConfigError("an evaluation needs all context shards of a row in one process; give another mesh")
    work = Work(EachOnce(sizes, batch_size), reader, rows, layout, part, process, mesh=mesh)
    return EvalLoader(work, num_threads=num_threads or _cores(), policy=policy or FaultPolicy(), metrics=metrics)


def _whole_seed(seed: Any) -> int:
    try:
        return operator.index(seed)  # a numpy integer must draw as the int does, and goes into the state
    except TypeError as error:
        raise ConfigError(f"seed is {seed!r}, it must be a whole number") from error


def _cores() -> int:
    return min(16, os.cpu_count() or 1)


def _process(index: int | None, count: int | None) -> tuple[int, int]:
    return (jax.process_index() if index is None else index, jax.process_count() if count is None else count)


def _known_lengths(data_dir: str | os.PathLike[str] | None, encoder: Encoder) -> Callable[[Draw], Lengths | None]:
    index = LengthIndex.open(data_dir, encoder)
    for name, known in index.coverage().items():
        if known.epochs:
            epochs = ", ".join(map(str, known.epochs))
            logger.info("lengths of %s are known for epochs %s; those of others are encoded to plan", name, epochs)
    return index.get


def _own_part(batch_size: int, mesh: jax.sharding.Mesh | None, index: int, count: int) -> ProcessPart:
    if mesh is None:
        return ProcessPart.of_process(batch_size, index, count)
    if (index, count) != (jax.process_index(), jax.process_count()):
        raise ConfigError(f"process_index {index} of {count} with a mesh: its devices say what is rendered where")
    return ProcessPart.of_mesh(batch_size, mesh)
