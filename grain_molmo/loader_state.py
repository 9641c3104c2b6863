"""A loader's state: small JSON of where in its plan it is and what that belongs to, with a checksum of both.

Only a state that is as it was taken is gone on from: one that was edited or lost a part could name a place that the run
was never at.
"""

import copy
import json
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
from jax.experimental import multihost_utils

from grain_molmo.errors import ConfigError, StoreError
from grain_molmo.rng import stable_hash

_VERSION = 3
_PARTS = ("version", "fingerprint", "plan", "checksum")


def pack_state(fingerprint: Mapping[str, str], plan: Mapping[str, Any]) -> dict[str, Any]:
    """A loader's state, which shares nothing with what it is made of.

    Args:
        fingerprint: what the plan belongs to, see `grain_molmo.fingerprint`.
        plan: the state of a `PackedRows` iterator.
    """
    content = {"fingerprint": dict(fingerprint), "plan": copy.deepcopy(dict(plan))}
    return {"version": _VERSION, **content, "checksum": _checksum(json.dumps(content, sort_keys=True))}


def unpack_state(state: object) -> tuple[dict[str, str], dict[str, Any]]:
    """The fingerprint and the plan's state that `pack_state` was given, from whatever carried them.

    Raises ConfigError for anything but a state as it was taken, and for one of another version.
    """
    if not isinstance(state, Mapping) or "version" not in state:
        raise ConfigError(f"{type(state).__name__} is no loader state: give the dict of get_state(), or json.loads")
    if state["version"] != _VERSION:
        raise ConfigError(f"loader state of version {state['version']!r}; this is version {_VERSION}")
    if missing := [part for part in _PARTS if part not in state]:
        raise ConfigError(f"the loader state is incomplete: it has no {', '.join(missing)}")
    content = {"fingerprint": state["fingerprint"], "plan": state["plan"]}
    try:
        # Checkpoints may give back numpy's integers, tuples for lists and another order of keys.
        text = json.dumps(content, sort_keys=True, default=operator.index)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the loader state is no JSON: {error}") from error
    if state["checksum"] != _checksum(text):
        raise ConfigError("the loader state is not as it was taken: its checksum is another; take one that is whole")
    whole = json.loads(text)
    return whole["fingerprint"], whole["plan"]


def check_same_everywhere(state: Mapping[str, Any]) -> None:
    """Returns if all processes of the job hold the state that this one holds; all must ask, at the same step.

    Each process plans for itself. One that reads other data than the others (a record damaged on its own disk, another
    quarantine file) plans other batches from there on, and no array tells: so ask before a checkpoint is saved.

    Args:
        state: of the loader, `Loader.get_state()`.

    Raises:
        StoreError: on every process, naming those whose state is not that of process 0.
    """
    own_8 = np.frombuffer(bytes.fromhex(state["checksum"]), np.uint8)
    all_P8 = np.asarray(multihost_utils.process_allgather(own_8)).reshape(-1, own_8.size)
    others = (all_P8 != all_P8[0]).any(axis=1).nonzero()[0].tolist()
    if others:
        raise StoreError(
            f"the loaders of processes {', '.join(map(str, others))} are elsewhere than that of process 0 (step "
            f"{state['plan']['step']} here): they read other data or were made otherwise; compare the skipped_examples "
            "of their stats(), check their stores with grain-molmo verify, and go on from a state of before"
        )


def _checksum(text: str) -> str:
    return f"{stable_hash(text):016x}"
