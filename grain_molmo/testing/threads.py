"""Whether threads may ask a dataset for examples at the same time.

Chance seldom brings two threads to the wrong place at once, so it is not left to chance: while one thread is asked for
an example, it is stopped at each line of the dataset's code, and another asks for one meanwhile. Besides, many ask at
once.
"""

import functools
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from grain_molmo.datasets.base import Dataset
from grain_molmo.testing.findings import Finding
from grain_molmo.testing.repeat import difference_from
from grain_molmo.testing.visits import Visit, revisit

_STOPPED_EXAMPLES = 8
_STOPS_AT_A_LINE = 2  # the second one is within a loop
_STOPS_OF_AN_EXAMPLE = 64
_PATIENCE_S = 0.1
_MOST_WAITING = 8
_THREADS = 8
_FEWEST_VISITS = 32

_CURE = "guard with a lock, or keep per thread, what calls share: an open file, a scratch array, an attribute"

_INSTALLED = (
    "<frozen",
    str(Path(__file__).parents[1]),
    *{sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")},
)
"""Where code lies that is not the user's: this library and others."""

Asked = list[tuple[Visit, Visit]]
"""What an example was, and what it is now."""


def asked_by_threads(dataset: Dataset, visits: Sequence[Visit], seed: int) -> Iterator[Finding]:
    """What differs when threads ask for examples at the same time, once for each example."""
    asked = [*_stopped_at_lines(dataset, visits, seed), *_at_once(dataset, visits, seed)]
    found = (difference_from("threads", "when threads ask at once", _CURE, known, again) for known, again in asked)
    yield from {one.index: one for one in found if one}.values()


def _at_once(dataset: Dataset, visits: Sequence[Visit], seed: int) -> Asked:
    if not visits:
        return []
    tasks = [*visits] * -(-_FEWEST_VISITS // len(visits))
    with ThreadPoolExecutor(_THREADS) as pool:
        again = pool.map(lambda known: revisit(dataset, known.index, seed), tasks)
        return list(zip(tasks, again, strict=True))


def _stopped_at_lines(dataset: Dataset, visits: Sequence[Visit], seed: int) -> Asked:
    chosen = visits[:: -(-len(visits) // _STOPPED_EXAMPLES)] if visits else []
    asked: Asked = []
    guarded: set[CodeType] = set()
    with ThreadPoolExecutor(1) as stopped, _Meanwhile(dataset, seed) as meanwhile:
        for place, known in enumerate(chosen):
            stops = _Stops(dataset, functools.partial(meanwhile.ask, chosen[place - 1]), guarded)
            again = stopped.submit(stops.run, functools.partial(revisit, dataset, known.index, seed)).result()
            asked.append((known, again))
        asked += meanwhile.answers()
    return asked


class _Meanwhile:
    """Another thread, which asks for examples while the first is stopped."""

    def __init__(self, dataset: Dataset, seed: int):
        self._dataset, self._seed = dataset, seed
        self._pool = ThreadPoolExecutor(1 + _MOST_WAITING)
        self._asked: list[tuple[Visit, Future[Visit]]] = []
        self._num_waiting = 0

    def __enter__(self) -> "_Meanwhile":
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown()

    def ask(self, known: Visit) -> bool:
        """Asks for an example; whether it came at once, not waiting for a lock that the stopped thread holds."""
        if self._num_waiting == _MOST_WAITING:
            return False
        future = self._pool.submit(revisit, self._dataset, known.index, self._seed)
        self._asked.append((known, future))
        try:
            future.result(timeout=_PATIENCE_S)
        except TimeoutError:
            self._num_waiting += 1
            return False
        return True

    def answers(self) -> Asked:
        """What was asked for, and what came."""
        return [(known, future.result()) for known, future in self._asked]


class _Stops:
    """A trace function that calls somebody at each new line of the dataset's own code.

    Args:
        dataset: whose code it is.
        call: whether the called one was done at once. If not, the code is added to those that are guarded.
        guarded: functions that are not stopped in again.
    """

    def __init__(self, dataset: Dataset, call: Callable[[], bool], guarded: set[CodeType]):
        modules = (sys.modules.get(kind.__module__) for kind in type(dataset).__mro__)
        self._own_files = {getattr(module, "__file__", None) for module in modules}
        self._call = call
        self._guarded = guarded
        self._stops: Counter[tuple[CodeType, int]] = Counter()

    def run(self, what: Callable[[], Visit]) -> Visit:
        """What it returns, in this thread, with its lines watched."""
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            return what()
        finally:
            sys.settrace(before)

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        if not self._is_own(frame.f_code.co_filename):
            return None
        code, line = frame.f_code, (frame.f_code, frame.f_lineno)
        wanted = self._stops[line] < _STOPS_AT_A_LINE and self._stops.total() < _STOPS_OF_AN_EXAMPLE
        if event == "line" and wanted and code not in self._guarded:
            self._stops[line] += 1
            if not self._call():
                self._guarded.add(code)
        return self._trace

    def _is_own(self, file: str) -> bool:
        """Whether it is the dataset's, or of the user's other code."""
        return file in self._own_files or not file.startswith(_INSTALLED)
