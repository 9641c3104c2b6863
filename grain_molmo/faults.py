"""What to do about examples that cannot be used: go on, stop at a budget, stop at once, and remember which they were.

There are two kinds. One that cannot become tokens is left out of the plan ("encode"); every process sees it. One whose
media do not decode keeps its place, blank and without weight ("render"); the process that has its row sees it. Both are
judged when their batch is handed out, whatever was prefetched, so that a run stops at the same batch each time.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from numbers import Integral, Real

from grain_molmo.datasets.base import Dataset, PathLike
from grain_molmo.errors import ConfigError, FaultBudgetError
from grain_molmo.packing.rows import EXCLUDED
from grain_molmo.quarantine import Fault, QuarantineFile
from grain_molmo.stats import BatchInfo

_SURE_FROM = 1000
"""Examples from which on a share of them means something: fewer are taken for as many."""

_ADVICE = (
    "stats() counts them by reason, FaultPolicy(quarantine=...) lists them one by one, and grain-molmo verify checks "
    "the store; mend it, leave them out with make_loader(exclude=...), or allow more"
)


@dataclass(frozen=True, kw_only=True)
class FaultPolicy:
    """What a loader does about faulty examples.

    Attributes:
        action: "skip" to go on within the budget, or "raise" at the first.
        max_ratio: the largest share of faulty examples to go on with: that of the examples drawn which were left out,
            and that of the examples in this process's rows which are blank, added up; counted from the loader's first
            batch, and as if of 1,000 examples before there are as many. None: any.
        max_in_a_row: how many faulty ones may follow each other: draws while planning; examples with media, row by row
            of what this process renders, when handed out. None: any number.
        quarantine: a file that gets one line of JSON for each faulty example, to be read by `read_quarantine`. Of
            several processes each has its own, `NAME-00003-of-00008.jsonl`.

    Raises:
        ConfigError: another action, or a limit out of its range.
    """

    action: str = "skip"
    max_ratio: float | None = None
    max_in_a_row: int | None = 1000
    quarantine: PathLike | None = None

    def __post_init__(self) -> None:
        if self.action not in ("skip", "raise"):
            raise ConfigError(f'FaultPolicy: action={self.action!r}: must be "skip" or "raise"')
        ratio, in_a_row = self.max_ratio, self.max_in_a_row
        if ratio is not None and not (isinstance(ratio, Real) and 0 <= ratio <= 1):
            raise ConfigError(f"FaultPolicy: max_ratio={ratio!r}: must be a number between 0 and 1")
        if in_a_row is not None and not (isinstance(in_a_row, Integral) and in_a_row >= 0):
            raise ConfigError(f"FaultPolicy: max_in_a_row={in_a_row!r}: must be a whole number, 0 or more")


def faults_of(info: BatchInfo) -> Iterator[Fault]:
    """The faulty examples of a batch: those left out, in order of the stream, then the blank ones, row by row."""
    for skipped in info.skipped:
        if skipped.reason == EXCLUDED:  # as asked
            continue
        name, epoch, index = skipped.draw
        yield Fault(name, index, epoch, skipped.id, info.step, "encode", skipped.reason, skipped.detail)
    for row in info.rows:
        for one in row:
            if one.blanked:
                error = one.detail.removeprefix(f"{one.blanked}: ")
                yield Fault(one.dataset, one.index, one.epoch, one.id, info.step, "render", one.blanked, error)


@dataclass(frozen=True)
class _Tally:
    """Counts over batches.

    Attributes:
        drawn: examples of the global batches, those left out among them.
        left_out: of these.
        rendered: examples in this process's rows.
        blanked: of these.
        in_a_row: blank ones since the last that shows something; `most_in_a_row` of the last batch.
        lost_in_a_row: those without a place in their row, as of an evaluation, since the last that is not blank.
        reasons: faults by reason.
    """

    drawn: int = 0
    left_out: int = 0
    rendered: int = 0
    blanked: int = 0
    in_a_row: int = 0
    lost_in_a_row: int = 0
    most_in_a_row: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def ratio(self) -> float:
        """Share of faulty examples."""
        return self.left_out / max(self.drawn, _SURE_FROM) + self.blanked / max(self.rendered, _SURE_FROM)

    def after(self, info: BatchInfo, faults: list[Fault]) -> "_Tally":
        """The counts with another batch."""
        left_out = sum(fault.stage == "encode" for fault in faults)
        in_a_row, lost = self.in_a_row, self.lost_in_a_row
        most = max(in_a_row, lost)
        for row in info.rows:
            for example in row:
                if not example.blanked:
                    lost = 0
                    if example.crops[1] > example.crops[0] or example.read_bytes:  # text says nothing of the media
                        in_a_row = 0
                elif example.tokens[0] == example.tokens[1]:
                    lost += 1
                else:
                    in_a_row += 1
                most = max(most, in_a_row, lost)
        return replace(
            self,
            drawn=self.drawn + info.num_examples + left_out,
            left_out=self.left_out + left_out,
            rendered=self.rendered + sum(map(len, info.rows)),
            blanked=self.blanked + len(faults) - left_out,
            in_a_row=in_a_row,
            lost_in_a_row=lost,
            most_in_a_row=most,
            reasons=self.reasons + Counter(fault.reason for fault in faults) if faults else self.reasons,
        )


class FaultWatch:
    """Holds a loader to its policy.

    Args:
        policy: what to do.
        datasets: by the names that the draws use.
        process_index, process_count: whose quarantine file it is.

    Raises:
        StoreError: the quarantine file cannot be written.
    """

    def __init__(
        self, policy: FaultPolicy, datasets: Mapping[str, Dataset], process_index: int = 0, process_count: int = 1
    ):
        self.policy = policy
        self._tally = _Tally()
        self._sees_all = process_index == 0
        self._file = (
            None
            if policy.quarantine is None
            else QuarantineFile(policy.quarantine, datasets, process_index, process_count)
        )

    def check(self, info: BatchInfo) -> None:
        """Notes a batch's faults; returns if the batch may be handed out. One that may not is not counted.

        Raises:
            ExampleError: the policy is to raise, and the batch's first fault is an example that was left out.
            MediaError: the same, and it is an example whose media are blank.
            FaultBudgetError: there are more faults than the policy allows.
            StoreError: the quarantine file cannot be written.
        """
        faults = list(faults_of(info))
        if faults and self._file is not None:
            self._file.add(fault for fault in faults if self._sees_all or fault.stage == "render")
        if faults and self.policy.action == "raise":
            raise faults[0].to_error()
        tally = self._tally.after(info, faults)
        if faults:
            self._check_budget(tally, faults[-1])
        self._tally = tally

    def _check_budget(self, tally: _Tally, last: Fault) -> None:
        max_ratio, max_in_a_row = self.policy.max_ratio, self.policy.max_in_a_row
        if max_in_a_row is not None and tally.most_in_a_row > max_in_a_row:
            excess = f"{tally.most_in_a_row:,} examples in a row are blank, {max_in_a_row:,} are allowed"
        elif max_ratio is not None and tally.ratio > max_ratio:
            few = f", counted as if of {_SURE_FROM:,}" if tally.rendered < _SURE_FROM else ""
            excess = f"{tally.ratio:.2%} of the examples are faulty{few}; {max_ratio:.2%} are allowed"
        else:
            return
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in tally.reasons.most_common(3))
        raise FaultBudgetError(
            f"{excess} (step {last.step}): of {tally.drawn:,} examples drawn {tally.left_out:,} were left out, of "
            f"{tally.rendered:,} rendered here {tally.blanked:,} are blank; most often {reasons}; the last: {last}. "
            f"{_ADVICE}"
        )
