"""`check_dataset`: all that a dataset promises to the loader and to people, tried out."""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from grain_molmo.datasets.base import Dataset
from grain_molmo.encode import Lengths
from grain_molmo.errors import ConfigError
from grain_molmo.stages import Stage
from grain_molmo.testing import fit, repeat, whole
from grain_molmo.testing.findings import CHECKS, CheckReport, DatasetCheckError, Finding
from grain_molmo.testing.form import ends_with_user, form_problems
from grain_molmo.testing.media import media_problems
from grain_molmo.testing.threads import asked_by_threads
from grain_molmo.testing.visits import Visit, seeded_globally, told, visit
from grain_molmo.text.tokenizer import Tokenizer, load_tokenizer
from grain_molmo.vision.chosen import with_chosen_as_video

logger = logging.getLogger(__name__)


def check_dataset(
    dataset: Dataset,
    *,
    num_examples: int = 100,
    seed: int = 0,
    stage: Stage | str | None = None,
    tokenizer: Tokenizer | str = "bytes",
    skip: Collection[str] = (),
    strict: bool = False,
) -> CheckReport:
    """What was checked of a dataset, if it is as it must be; for a test: `check_dataset(MyDataset("train"))`.

    The checks, by the names that `skip` takes:

    - length: above 0, the same before and after. access: negative indices, IndexError, iteration.
    - get: returns for every index, or raises `ExampleError` for an example to leave out. format: a dict; pixels of
      [H, W, 3] uint8; points inside of the picture. metadata: text, numbers and the like.
    - media: all decodes, to the size that it says. stage: the examples become tokens of the stage.
    - random: nothing is drawn from random states that the process shares. repeat: the same random state gives the same
      example and is left the same. order: also in another order. pickling: also in a pickled copy. threads: also when
      threads ask at once. changes: also after a caller changed what it was given before; what is found there is
      advice, which is logged.
    - ids: `metadata["id"]` is unique, and what `ids` says. fingerprint: if there is one, text that stays.

    Each example is asked for about ten times, its pictures decoded once. Nothing is written; the process's random
    states are put back.

    Args:
        dataset: made as the loader would make it.
        num_examples: at most so many are looked at, the first and the last among them.
        seed: which ones, and what they draw.
        stage: what they must fit, a Stage or the name of one; by default one that takes all kinds of media in rows of
            36,864 tokens; of kind "features" or "prompts" if the examples are such.
        tokenizer: as of `make_loader`.
        skip: checks to leave out, where what they find is meant.
        strict: take advice for a fault.

    Raises:
        DatasetCheckError: an AssertionError whose message lists what is wrong: the example, the field, what to do.
        ConfigError: `dataset` is no Dataset, or an argument names nothing.
    """
    if not isinstance(dataset, Dataset):
        raise ConfigError(f"check_dataset takes a grain_molmo.Dataset, not {type(dataset).__name__}; inherit from it")
    if strangers := sorted({*skip} - {*CHECKS}):
        raise ConfigError(f"skip={strangers}: the checks are {', '.join(CHECKS)}")
    if num_examples < 1:
        raise ConfigError(f"num_examples={num_examples}: must be at least 1")
    check = _Check(dataset, num_examples, seed, fit.as_stage(stage), load_tokenizer(tokenizer))
    with seeded_globally(seed):  # also puts them back
        found = tuple(one for one in check.findings() if one.check not in skip)
    report = check.report(found)
    if any(strict or not one.is_advice for one in found):
        raise DatasetCheckError(report)
    if found:
        logger.warning("%s", report)
    return report


def spread(length: int, num_examples: int, seed: int) -> list[int]:
    """Indices to look at, ascending: all if there are no more, else the first, the last, and others at random.

    >>> spread(3, 100, 0), spread(1000, 2, 0)
    ([0, 1, 2], [0, 999])
    """
    if length <= num_examples:
        return list(range(length))
    ends = [0, length - 1][:num_examples]
    others = 1 + np.random.RandomState(seed).choice(length - 2, num_examples - len(ends), replace=False)
    return sorted([*ends, *others.tolist()])


@dataclass
class _Check:
    """One run over a dataset, and what it has come to so far."""

    dataset: Dataset
    num_examples: int
    seed: int
    stage: Stage
    tokenizer: Tokenizer
    length: int = 0
    visits: list[Visit] = field(default_factory=list)
    num_prompts: int = 0
    usable: list[Visit] = field(default_factory=list)  # whose form is one that the loader takes
    steady: list[Visit] = field(default_factory=list)  # the same at once again, which later checks build on
    lengths: list[Lengths] = field(default_factory=list)

    def findings(self) -> Iterator[Finding]:
        length = whole.length_of(self.dataset)
        if isinstance(length, Finding):
            yield length
            return
        self.length = length
        fingerprint = whole.fingerprint_of(self.dataset)
        copy = repeat.pickled_copy(self.dataset)  # before the dataset has seen or kept anything
        for index in spread(length, self.num_examples, self.seed):
            yield from self._look_at(index)
        first = self.visits[0].error
        if first is not None and all(known.left_out for known in self.visits):
            what = f"get leaves out all examples that were looked at, the first with {told(first)}"
            yield Finding(check="get", what=what, cure="mend it: there would be nothing to train on")
        yield from whole.id_findings(self.dataset, length, self.visits)
        yield from self._encode()
        yield from self._access()
        others = [] if isinstance(copy, Finding) else [("in a pickled copy", copy)]
        yield from whole.fingerprint_findings(self.dataset, fingerprint, others)
        yield from self._whoever_asks(copy)

    def _look_at(self, index: int) -> Iterator[Finding]:
        with seeded_globally(self.seed) as shared:
            example, known = visit(self.dataset, index, self.seed)
            touched = shared.touched()
        self.visits.append(known)
        if touched:
            what, cure = f"get uses {touched}, which the process shares", "draw from the `rng` that get is given"
            yield Finding(check="random", what=what, cure=cure, index=index, id=known.id)
        if known.left_out:
            return
        if known.error is not None:
            cure = "mend it, or raise grain_molmo.ExampleError(reason, detail) to have the example left out"
            yield Finding(check="get", what=f"get raised {told(known.error)}", cure=cure, index=index)
            return
        if isinstance(example, Mapping):
            example = with_chosen_as_video(example)
        self.num_prompts += ends_with_user(example)
        problems = list(form_problems(example))
        if not any(problem.check == "format" for problem in problems):
            problems += media_problems(example)
            self.usable.append(known)
        for check, place, what, cure in problems:
            yield Finding(check=check, what=what, cure=cure, index=index, id=known.id, field=place)
        if touched:
            return
        if unsteady := repeat.repeated(self.dataset, known, self.seed):
            yield unsteady
        else:
            self.steady.append(known)

    def _encode(self) -> Iterator[Finding]:
        if self.stage is fit.ROOMY and self.num_prompts == len(self.usable):
            self.stage = replace(fit.ROOMY, kind="prompts")
        for one in fit.lengths_of(self.dataset, self.usable, self.stage, self.tokenizer, self.seed):
            if isinstance(one, Finding):
                yield one
            else:
                self.lengths.append(one)

    def _access(self) -> Iterator[Finding]:
        grown = list(whole.length_kept(self.dataset, self.length))
        yield from grown
        if not grown and self.steady and self.steady[-1].index == self.length - 1:
            yield from whole.access_findings(self.dataset, self.length, self.num_examples)

    def _whoever_asks(self, copy: Dataset | Finding) -> Iterator[Finding]:
        found = list(repeat.asked_backwards(self.dataset, self.steady, self.seed))
        yield from found
        # Where one call knows of another, nothing can be said of what follows.
        steady = [] if found else self.steady
        found = list(asked_by_threads(self.dataset, steady, self.seed))
        yield from found
        steady = _without(steady, found)
        if isinstance(copy, Finding):
            yield copy
            copy = self.dataset
        else:
            found = list(repeat.asked_of_copy(copy, steady, self.seed))
            yield from found
        yield from repeat.asked_after_changes(copy, _without(steady, found), self.seed)

    def report(self, found: tuple[Finding, ...]) -> CheckReport:
        tokens, crops = ([getattr(one, name) for one in self.lengths] for name in ("n_tokens", "n_crops"))
        return CheckReport(
            dataset=_named(self.dataset),
            length=self.length,
            checked=len(self.visits),
            left_out=Counter(known.left_out for known in self.visits if known.left_out),
            n_tokens=(min(tokens), max(tokens)) if tokens else None,
            n_crops=(min(crops), max(crops)) if crops else None,
            findings=found,
        )


def _without(visits: Iterable[Visit], found: Iterable[Finding]) -> list[Visit]:
    """Those of which nothing was found, so that a fault is told once."""
    told_of = {one.index for one in found}
    return [visit for visit in visits if visit.index not in told_of]


def _named(dataset: Dataset) -> str:
    try:
        return repr(dataset)
    except Exception:  # without a length, there is no repr
        return type(dataset).__name__
