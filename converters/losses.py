"""What to say of the rows that were rejected, where there are too many of them."""

import logging
from collections import Counter
from collections.abc import Sequence

from converters.plan import SplitPlan
from converters.spec import UNIT_REASONS, SetSpec
from grain_molmo.store import Reject
from grain_molmo.store.manifest import count_reasons

log = logging.getLogger(__name__)


def unit_warnings(spec: SetSpec, plan: SplitPlan, rejects: Sequence[Reject]) -> list[str]:
    """What it suggests that most of the rows are in the wrong unit, if they are; logged, too."""
    reasons = Counter(reject.reason for reject in rejects)
    warnings = [
        f"{spec.name} {plan.split}: {count:,} of {plan.num_rows:,} rows rejected as {reason}. {UNIT_REASONS[reason]}"
        for reason, count in reasons.items()
        if reason in UNIT_REASONS and count > plan.num_rows / 2
    ]
    for warning in warnings:
        log.error(warning)
    return warnings


def explain_failure(spec: SetSpec, plan: SplitPlan, rejects: Sequence[Reject]) -> str:
    """Why a split has no record; logged, too, with an example of each reason for which its rows were rejected."""
    first = {reject.reason: reject for reject in reversed(rejects)}
    for reason, reject in sorted(first.items()):
        log.error("%s %s: row %d rejected as %s: %s", spec.name, plan.split, reject.row, reason, reject.detail)
    message = f"{spec.name} {plan.split}: none of {plan.num_rows:,} rows could be converted"
    log.error(message)
    return message


def too_many_rejected(spec: SetSpec, plan: SplitPlan, rejects: Sequence[Reject], limit: float) -> str:
    """Why a split is not committed; logged, too."""
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in count_reasons(rejects).items())
    message = (
        f"{spec.name} {plan.split}: {len(rejects):,} of {plan.num_rows:,} rows were rejected, more than --max-rejected "
        f"{limit:g}: {reasons}. It was not committed, but its shards are kept: the same command with a larger limit "
        "commits them, and --retry-rejects afterwards tries rows again that hosts did not answer for"
    )
    log.error(message)
    return message
