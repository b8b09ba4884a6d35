from metering.models.corrections import Correction
from metering.models.dropped_months import DroppedMonth
from metering.models.events import Event, IngestBatch, RejectedEvent
from metering.models.meters import Aggregation, Meter
from metering.models.seals import Seal, SealTile
from metering.models.totals_checks import TotalsCheck
from metering.models.usage import Series, UsageDay, UsageInterval

__all__ = [
    "Aggregation",
    "Correction",
    "DroppedMonth",
    "Event",
    "IngestBatch",
    "Meter",
    "RejectedEvent",
    "Seal",
    "SealTile",
    "Series",
    "TotalsCheck",
    "UsageDay",
    "UsageInterval",
]
