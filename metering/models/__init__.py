from metering.models.alerts import Alert, AlertKind, AlertMessage, AlertSettings, Channel
from metering.models.backfills import MeterBackfill
from metering.models.billed_usage import BilledUsage, BilledUsageChange
from metering.models.corrections import Correction
from metering.models.counters_checks import CountersCheck
from metering.models.dropped_months import DroppedMonth
from metering.models.events import Event, IngestBatch, RejectedEvent
from metering.models.meters import Aggregation, Meter, MeterRevision
from metering.models.pruned_holds import PrunedHoldEvent, PrunedHolds
from metering.models.quotas import (
    AdmissionChange,
    AdmissionSettings,
    BillingWindow,
    Denial,
    Enforcement,
    Hold,
    HoldState,
    Measure,
    PriceEstimate,
    Quota,
    QuotaIncrease,
    QuotaScope,
    QuotaWindow,
    SetBy,
    WhenUnreachable,
    Window,
)
from metering.models.seals import Seal, SealTile
from metering.models.totals_checks import TotalsCheck
from metering.models.usage import Series, SeriesLimit, UniqueDayValue, UniqueValue, UsageDay, UsageInterval
from metering.models.usage_imports import UsageImport, UsageImportPiece, UsageImportRefusal

__all__ = [
    "AdmissionChange",
    "AdmissionSettings",
    "Aggregation",
    "Alert",
    "AlertKind",
    "AlertMessage",
    "AlertSettings",
    "BilledUsage",
    "BilledUsageChange",
    "BillingWindow",
    "Channel",
    "Correction",
    "CountersCheck",
    "Denial",
    "DroppedMonth",
    "Enforcement",
    "Event",
    "Hold",
    "HoldState",
    "IngestBatch",
    "Measure",
    "Meter",
    "MeterBackfill",
    "MeterRevision",
    "PriceEstimate",
    "PrunedHoldEvent",
    "PrunedHolds",
    "Quota",
    "QuotaIncrease",
    "QuotaScope",
    "QuotaWindow",
    "RejectedEvent",
    "Seal",
    "SealTile",
    "Series",
    "SeriesLimit",
    "SetBy",
    "TotalsCheck",
    "UniqueDayValue",
    "UniqueValue",
    "UsageDay",
    "UsageImport",
    "UsageImportPiece",
    "UsageImportRefusal",
    "UsageInterval",
    "WhenUnreachable",
    "Window",
]
