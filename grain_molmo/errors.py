"""The exceptions of this library, one family: every message says what happened, where, and what to do."""

from typing import Any, Self


class GrainMolmoError(Exception):
    """Base of everything that this library raises on purpose.

    Attributes:
        hint: what to do about it, where there is something beside what the message says; "" if not.
    """

    hint = ""

    def with_hint(self, hint: str) -> Self:
        """The error with a hint, which the command line shows, and tracebacks as a note."""
        self.hint = hint
        self.add_note(f"hint: {hint}")
        return self


class ConfigError(GrainMolmoError, ValueError):
    """Something that the caller chose does not hold: a name, a weight, a budget, a tokenizer."""


class MissingSplitError(ConfigError):
    """A dataset was converted, but not the split that was asked for."""


class StoreError(GrainMolmoError):
    """A store on disk is missing, incomplete or damaged; the message names the file."""


class StoreBusyError(StoreError):
    """Another process is writing this dataset; the message says which."""


class DamagedRecordError(StoreError):
    """One record of a store does not read, though its shard is there and whole in size: the others can be used."""


class NotConvertedError(StoreError):
    """A dataset was not converted into the data folder."""


class MediaError(GrainMolmoError):
    """A picture or video cannot be decoded.

    Args:
        reason: a short stable word that counters group by.
        detail: what exactly was wrong, and where.
    """

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.detail)


class ExampleError(GrainMolmoError):
    """One example cannot be turned into tokens.

    Args:
        reason: a short stable word that counters group by.
        detail: what exactly was wrong, and where.
        example_id: the example's own name, where it is known.
    """

    def __init__(self, reason: str, detail: str, example_id: str = ""):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.example_id = example_id

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.detail, self.example_id)


class FaultBudgetError(GrainMolmoError):
    """More examples were faulty than the loader's `FaultPolicy` allows."""


class RowError(GrainMolmoError):
    """One source row cannot be converted.

    Args:
        reason: a short stable word that the reject table groups by.
        detail: what exactly was wrong, and where.
    """

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.detail)


class FetchError(RowError):
    """A picture cannot be had over the network.

    Args:
        reason, detail: as of `RowError`.
        attempts: how often it was asked for.
        time: of the last attempt, UTC, ISO 8601 to the second.
    """

    def __init__(self, reason: str, detail: str, attempts: int, time: str):
        super().__init__(reason, detail)
        self.attempts = attempts
        self.time = time

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.detail, self.attempts, self.time)
