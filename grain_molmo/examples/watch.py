"""What a trainer wants to know of its steps: the loss, how long it waited for data, whether anything compiled anew."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax

_COMPILED = "/jax/core/compile/backend_compile_duration"


class Watch:
    """Times the steps of a run and logs them, a line of JSON each, written before the next step begins.

    Args:
        log: file to append to, by the first process.
        least_s: seconds that a step takes at least: a small model stands for one that keeps a chip busy so long.
    """

    def __init__(self, log: str | None, least_s: float = 0.0):
        self._log = log if jax.process_index() == 0 else None
        self._least_s = least_s
        self._losses: list[float] = []
        self._wait_s: list[float] = []
        self._ends: list[float] = []
        self._compilations = 0
        jax.monitoring.register_event_duration_secs_listener(self._on_event)

    def _on_event(self, event: str, duration_secs: float, **kwargs: Any) -> None:
        self._compilations += event == _COMPILED and "train_step" in kwargs.get("fun_name", "")

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Times what is done inside as waiting for data."""
        started = time.perf_counter()
        yield
        self._wait_s.append(time.perf_counter() - started)
        self._step_began = time.perf_counter()

    def step_done(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
        """Waits for the step's end and notes it."""
        loss, batch = float(metrics["loss"]), int(metrics["batch"])
        time.sleep(max(0.0, self._step_began + self._least_s - time.perf_counter()))
        self._losses.append(loss)
        self._ends.append(time.perf_counter())
        if self._log:
            line = {"step": step, "loss": loss, "batch": f"{batch:08x}", "wait_s": round(self._wait_s[-1], 6)}
            with open(self._log, "a") as log:
                print(json.dumps(line), file=log)

    def last_line(self, step: int, last: int) -> str:
        """How far the run is, for people."""
        took = f", {self._ends[-1] - self._ends[-2]:.2f} s" if len(self._ends) > 1 else ""
        return f"step {step + 1} of {last}: loss {self._losses[-1]:.3f}{took}"

    def summary(self) -> dict[str, Any]:
        """Figures of the run; `step_s` and `stall`, the share of the time spent waiting, leave out the first step."""
        if not self._losses:
            return {"steps": 0}
        seconds = self._ends[-1] - self._ends[0]
        return {
            "steps": len(self._losses),
            "first_loss": self._losses[0],
            "last_loss": self._losses[-1],
            "step_s": seconds / max(1, len(self._losses) - 1),
            "first_wait_s": self._wait_s[0],
            "stall": sum(self._wait_s[1:]) / seconds if seconds else 0.0,
            "compilations": self._compilations,
        }
