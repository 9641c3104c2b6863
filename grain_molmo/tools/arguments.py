"""Types of command-line arguments."""

import argparse
import math
from collections.abc import Callable

from grain_molmo.store.files import canonical_name


def whole_number(smallest: int) -> Callable[[str], int]:
    """An argparse type: a whole number, `smallest` or more."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if value < smallest:
            raise argparse.ArgumentTypeError(f"must be at least {smallest}, not {value}")
        return value

    return parse


def seconds(text: str) -> float:
    """An argparse type: a number of seconds, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not (value >= 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {text}")
    return value


def stage_name(text: str) -> str:
    """An argparse type: the name of a stage, '-' and '_' alike; give `choices` beside it."""
    return text.replace("-", "_")


def weights_by_name(text: str) -> dict[str, float]:
    """An argparse type: weights by dataset, of text such as `pixmo_cap` or `pixmo_cap=0.7,my-set=0.3`."""
    entries = [entry.partition("=") for entry in text.split(",")]
    try:
        return {canonical_name(name): float(weight or 1) for name, _, weight in entries}
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not like pixmo_cap=0.7,my-set=0.3 ({error})") from error
