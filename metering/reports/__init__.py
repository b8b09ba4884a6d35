"""The read side of metering: what was used, by time and dimensions. Portal, API, exports and billing all read here.

Figures come from totals, exact, a query or two per report. Days and months are the organisation's. Nothing is written.
"""

from metering.reports.choosing import (
    MixedUnitsError,
    NotAdditiveError,
    UnknownMeterError,
    all_meters,
    label_names,
    partial_meters,
    token_meters,
    whole_meters,
)
from metering.reports.freshness import LiveRate, last_received_at, live_rate, look_up_pending, pending_events
from metering.reports.quantities import Quantity, look_up_quantities, period_values, quantities
from metering.reports.usage import UsageFilter, UsageReport, UsageRow, usage

__all__ = [
    "LiveRate",
    "MixedUnitsError",
    "NotAdditiveError",
    "Quantity",
    "UnknownMeterError",
    "UsageFilter",
    "UsageReport",
    "UsageRow",
    "all_meters",
    "label_names",
    "last_received_at",
    "live_rate",
    "look_up_pending",
    "look_up_quantities",
    "partial_meters",
    "pending_events",
    "period_values",
    "quantities",
    "token_meters",
    "usage",
    "whole_meters",
]
