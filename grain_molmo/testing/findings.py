"""What a check has found, in words that say where and what to do."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from grain_molmo.errors import GrainMolmoError

CHECKS = (
    *("length", "access", "get", "format", "media", "metadata", "stage"),
    *("random", "repeat", "order", "changes", "pickling", "threads", "ids", "fingerprint"),
)
"""The families of checks, by the names that `check_dataset(skip=...)` takes."""

ADVICE = frozenset({"changes"})
"""Families whose findings are no fault of a dataset: a loader changes nothing that it is given, other callers may."""

_ALSO = 5
"""Further examples of the same finding that are named before the rest is only counted."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        check: its family, one of `CHECKS`.
        what: what is wrong.
        cure: what to do.
        index: of the example; None where it is of the dataset as a whole.
        id: the example's own name, "" without one.
        field: where in the example, as in "messages[1].content"; "" where it is all of it.
    """

    check: str
    what: str
    cure: str
    index: int | None = None
    id: str = ""
    field: str = ""

    @property
    def where(self) -> str:
        """The example and the field, for people."""
        named = f" (id {self.id})" if self.id else ""
        example = "the dataset" if self.index is None else f"example {self.index}{named}"
        return f"{example}, {self.field}" if self.field else example

    @property
    def is_advice(self) -> bool:
        """Whether nothing is wrong yet."""
        return self.check in ADVICE

    def __str__(self) -> str:
        return f"[{self.check}] {self.where}: {self.what}; {self.cure}"


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What `check_dataset` did and found.

    Attributes:
        dataset: the dataset's `repr`.
        length: its examples.
        checked: how many of them were looked at.
        left_out: those for which `get` raises `ExampleError`, by reason; a loader leaves them out, too.
        n_tokens, n_crops: the least and the most that an example takes of a row of the stage; None if none was encoded.
        findings: what is wrong, or might be better, in the order of the checks.
    """

    dataset: str
    length: int = 0
    checked: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    n_tokens: tuple[int, int] | None = None
    n_crops: tuple[int, int] | None = None
    findings: tuple[Finding, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.dataset}: {_number(len(self.findings), 'finding')} in {self.checked:,} of {self.length:,}"]
        lines[0] += " examples"
        if self.left_out:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
            lines.append(f"  left out by get: {reasons}")
        if self.n_tokens and self.n_crops:
            (fewest, most), (least, largest) = self.n_tokens, self.n_crops
            lines.append(f"  an example takes {fewest:,} to {most:,} tokens and {least:,} to {largest:,} crops")
        return "\n".join([*lines, *(f"  {line}" for line in _told(self.findings))])


class DatasetCheckError(GrainMolmoError, AssertionError):
    """A dataset is not as it must be; the message lists all that was found.

    Attributes:
        report: all of it.
        findings: its findings.
    """

    def __init__(self, report: CheckReport):
        super().__init__(str(report))
        self.report = report
        self.findings = report.findings

    def __reduce__(self) -> tuple[type["DatasetCheckError"], tuple[CheckReport]]:
        return type(self), (self.report,)


def _told(findings: Iterable[Finding]) -> list[str]:
    """A line for each kind of finding: the first of its kind in full, the examples that have it, too, by number."""
    alike: dict[tuple[str, ...], list[Finding]] = {}
    for one in findings:
        kind = (one.check, re.sub(r"\d+", "", one.field), one.cure if one.index is not None else one.what)
        alike.setdefault(kind, []).append(one)
    lines = []
    for first, *others in alike.values():
        others = list(dict.fromkeys(one.index for one in others if one.index not in (None, first.index)))
        named = ", ".join(map(str, others[:_ALSO]))
        more = f" and {len(others) - _ALSO:,} more" if len(others) > _ALSO else ""
        lines.append(f"{first} (also examples {named}{more})" if others else str(first))
    return lines


def _number(count: int, noun: str) -> str:
    return f"no {noun}s" if not count else f"{count:,} {noun}{'' if count == 1 else 's'}"
