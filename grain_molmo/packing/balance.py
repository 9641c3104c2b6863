"""The order of a batch's rows, so that hosts which take a contiguous part each get about the same work."""

from collections.abc import Sequence


def balanced_order(costs: Sequence[int]) -> list[int]:
    """Numbers of the rows, in an order whose halves cost about the same, and their halves, and so on.

    It depends on the costs alone, not on how many hosts there are: any number of hosts that is a power of two and
    divides the rows gets parts of nearly equal cost, and other numbers get parts made of such parts. Rows are dealt
    out in turns, the most expensive first; in each turn the part that has cost least so far takes the dearest row. So
    two halves differ by no more than the most expensive row.

    >>> balanced_order([9, 1, 8, 2])  # 9 and 1 against 8 and 2
    [0, 1, 2, 3]
    >>> balanced_order([9, 8, 2, 1])
    [0, 3, 1, 2]

    Args:
        costs: of each row, any unit.
    """
    dearest_first = sorted(range(len(costs)), key=lambda row: (-costs[row], row))
    return _halved(dearest_first, costs)


def _halved(rows: list[int], costs: Sequence[int]) -> list[int]:
    if len(rows) < 2:
        return rows
    parts = _deal(rows, costs, _smallest_factor(len(rows)))
    return [row for part in parts for row in _halved(part, costs)]


def _deal(rows: Sequence[int], costs: Sequence[int], count: int) -> list[list[int]]:
    """Rows, the most expensive first, dealt out to so many parts of one size."""
    parts: list[list[int]] = [[] for _ in range(count)]
    totals = [0] * count
    for turn in range(0, len(rows), count):
        cheapest_first = sorted(range(count), key=totals.__getitem__)
        for part, row in zip(cheapest_first, rows[turn : turn + count], strict=True):
            parts[part].append(row)
            totals[part] += costs[row]
    return parts


def _smallest_factor(number: int) -> int:
    return next((factor for factor in range(2, int(number**0.5) + 1) if number % factor == 0), number)
