"""What a conversion of one set came to."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Summary:
    """What a conversion of one set came to."""

    name: str
    media: str = "pictures"
    rows: int = 0
    examples: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    media_new: int = 0
    media_shared: int = 0
    num_bytes: int = 0
    already_there: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON-able values."""
        return asdict(self)

    def to_text(self) -> str:
        """The summary for people, one line a fact."""
        splits = ", ".join(f"{split} {count:,}" for split, count in self.examples.items()) or "no examples"
        lines = [f"{self.name}: {splits} (from {self.rows:,} rows in {self.seconds:.1f} s)"]
        if self.already_there:
            lines.append(f"  already converted, kept: {', '.join(self.already_there)} (--force converts anew)")
        lines.append(
            f"  {self.media}: {self.media_new:,} new, {self.media_shared:,} uses of ones already stored; "
            f"{self.num_bytes / 1e6:,.1f} MB written"
        )
        for reason, count in sorted(self.rejected.items(), key=lambda item: (-item[1], item[0])):
            lines.append(f"  rejected {reason}: {count:,}")
        return "\n".join([*lines, *(f"  WARNING: {warning}" for warning in self.warnings)])
