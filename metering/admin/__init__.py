"""Metering as operators see it: meters, what came in, what was refused, what is limited, whether totals are right.

Series and their totals have keys of several columns, which Django's admin cannot open; the portal, the API and
`compare_totals` show them.
"""

from metering.admin import (
    backfills,
    batches,
    counters_checks,
    dropped_months,
    meters,
    quotas,
    rejections,
    totals_checks,
    usage_imports,
)

__all__ = [
    "backfills",
    "batches",
    "counters_checks",
    "dropped_months",
    "meters",
    "quotas",
    "rejections",
    "totals_checks",
    "usage_imports",
]
