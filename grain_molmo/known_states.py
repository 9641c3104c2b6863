"""States of a plan that a loader has passed, from which an earlier or later batch can be planned again."""

from collections.abc import Sequence
from typing import Any

PlanState = dict[str, Any]

_MOST = 512


class KnownStates:
    """Remembers a plan's states by their step, in bounded memory: of a long run, every second, fourth, ... one.

    Args:
        first: the state at step 0, which is always kept.
    """

    def __init__(self, first: PlanState):
        self._kept = {first["step"]: first}
        self._by_step: dict[int, PlanState] = {}
        self._every = 1

    def keep(self, state: PlanState) -> None:
        """Remembers a state for good."""
        self._kept[state["step"]] = state

    def add(self, state: PlanState) -> None:
        """Remembers a state of a run, if it is one of those that are to be remembered."""
        step = state["step"]
        if step % self._every:
            return
        self._by_step[step] = state
        if len(self._by_step) > _MOST:
            self._every *= 2
            self._by_step = {known: state for known, state in self._by_step.items() if known % self._every == 0}

    def before(self, step: int, removals: Sequence[Any] = ()) -> PlanState:
        """The last state known before the batch of that step, of a run with these removals of examples.

        What the loader knows may come from a run in which other examples were removed: such states are passed over.
        """
        known = {**self._by_step, **self._kept}
        for each in sorted(known, reverse=True):
            state = known[each]
            if each <= step and _until(each, state.get("removals", ())) == _until(each, removals):
                rest = {key: value for key, value in state.items() if key != "removals"}  # declared for later
                return {**rest, "removals": list(removals)} if removals else rest
        raise AssertionError("the state at step 0 belongs to every run")


def _until(step: int, removals: Sequence[Any]) -> list[Any]:
    """Those in effect before the batch of a step."""
    return [removal for removal in removals if removal[0] < step]
