"""Types of command-line arguments."""

import argparse
from collections.abc import Callable


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
