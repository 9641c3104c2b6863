"""What a conversion of one set came to."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from converters.fetch.reasons import may_pass
from grain_molmo.store import Reject


@dataclass
class Summary:
    """What a conversion of one set came to.

    Attributes:
        name: of the set.
        media: what its media are called.
        rows: of the source.
        examples: by split of the store.
        rejected: rows by reason.
        media_new: media that the store did not have.
        media_shared: uses of media that it had.
        num_bytes: of the shards written.
        already_there: splits that were not converted again.
        retried, won: rows that were tried again, and those of them that are in a record now.
        empty: that none of its rows could be converted, by split.
        refused: why a split was not committed, by split; of empty ones those that take all of a source split along.
        warnings: what looks wrong.
        seconds: from opening the source to the last commit.
    """

    name: str
    media: str = "pictures"
    rows: int = 0
    examples: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    media_new: int = 0
    media_shared: int = 0
    num_bytes: int = 0
    already_there: list[str] = field(default_factory=list)
    retried: int = 0
    won: int = 0
    empty: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add_rejected(self, reasons: Mapping[str, int]) -> None:
        """Counts the rejected rows of another split."""
        self.rejected = dict(Counter(self.rejected) + Counter(reasons))

    def add_retried(self, before: Sequence[Reject], after: Sequence[Reject]) -> None:
        """Counts what became of the rejected rows of a split that were tried again."""
        self.retried += sum(may_pass(reject.reason) for reject in before)
        self.won += len(before) - len(after)

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON-able values."""
        return asdict(self)

    def to_text(self) -> str:
        """The summary for people, one line a fact."""
        splits = ", ".join(f"{split} {count:,}" for split, count in self.examples.items()) or "no examples"
        lines = [f"{self.name}: {splits} (from {self.rows:,} rows in {self.seconds:.1f} s)"]
        if self.already_there:
            lines.append(f"  already converted, kept: {', '.join(self.already_there)} (--force converts anew)")
        if self.retried:
            lines.append(f"  tried again: {self.retried:,} rejected rows, of which {self.won:,} were won")
        lines.append(
            f"  {self.media}: {self.media_new:,} new, {self.media_shared:,} uses of ones already stored; "
            f"{self.num_bytes / 1e6:,.1f} MB written"
        )
        for reason, count in sorted(self.rejected.items(), key=lambda item: (-item[1], item[0])):
            lines.append(f"  rejected {reason}: {count:,}")
        lines += [f"  NOT COMMITTED: {why}" for why in self.refused.values()]
        return "\n".join([*lines, *(f"  WARNING: {warning}" for warning in self.warnings)])
