"""Totals: how events become series, quarter hours and days, and how that is checked and done again.

Totals are projections of events. Folding adds every batch exactly once, whatever dies; comparing recomputes them from
events and reports differences; rebuilding replaces a range by what its events say.
"""

from metering.aggregation.comparing import Difference, compare_totals
from metering.aggregation.folding import Folded, Lag, fold_pending, lag
from metering.aggregation.rebuilding import (
    EventsDroppedError,
    UnalignedRangeError,
    organisations_with_moved_days,
    rebuild_days,
    rebuild_totals,
)

__all__ = [
    "Difference",
    "EventsDroppedError",
    "Folded",
    "Lag",
    "UnalignedRangeError",
    "compare_totals",
    "fold_pending",
    "lag",
    "organisations_with_moved_days",
    "rebuild_days",
    "rebuild_totals",
]
