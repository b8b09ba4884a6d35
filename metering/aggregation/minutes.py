"""What events used by the minute and by the call: what admission's counters follow. Reads; the caller counts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from metering.admission.counting import Used
from metering.aggregation.members import Sql
from metering.aggregation.rules import Dimension, Rule
from metering.aggregation.statement import MODEL, readings
from metering.models import Meter

# An event that names a call is read by itself, so its key goes along as one of its dimensions. Corrections have none.
EVENTS = """
SELECT organisation_id, type, project_id, api_key_id, time,
       CASE WHEN data ?| ARRAY['admission', 'call_id'] THEN data || jsonb_build_object('event_key', key)
            ELSE data - 'event_key' END AS data
FROM ({source}) AS e"""
BOTH = """
SELECT *, 1 AS sign FROM ({events}) AS e
UNION ALL
SELECT organisation_id, type, project_id, api_key_id, time, data - 'event_key', sign FROM ({corrections}) AS c"""
USED = """
WITH {readings}
SELECT organisation_id, meter_id, project_id, api_key_id, model, labels, starts_at, value FROM keyed"""
LABELS = ("end_user", "event_key", "admission", "call_id")
DIMENSIONS = (MODEL, *(Dimension(name, None) for name in LABELS))


def used_by_minute(cursor: Any, events: Sql, rules: Sequence[Rule], *, corrections: Sql | None = None) -> list[Used]:
    """Of a query for events with their keys, and of what corrections take back and count instead, with a sign."""
    if not rules:
        return []
    source = Sql(EVENTS.format(source=events.text), events.params)
    if corrections is not None:
        both = BOTH.format(events=source.text, corrections=corrections.text)
        source = Sql(both, source.params + corrections.params)
    by_call = [replace(rule, dimensions=DIMENSIONS, is_bounded=False) for rule in rules]
    found = readings(source, by_call, is_signed=corrections is not None, step="1 minute")
    cursor.execute(USED.format(readings=found.text), found.params)
    rows = cursor.fetchall()
    keys = dict(Meter.objects.values_list("pk", "key"))
    return [_used(keys, *row) for row in rows]


def _used(
    keys: Mapping[int, str],
    organisation_id: int,
    meter_id: int,
    project_id: int,
    api_key_id: int | None,
    model: str,
    labels: Any,
    minute: datetime,
    units: Decimal,
) -> Used:
    named = json.loads(labels) if isinstance(labels, str) else labels
    return Used(
        organisation_id=organisation_id,
        meter_key=keys[meter_id],
        project_id=project_id,
        api_key_id=api_key_id,
        model=model,
        end_user=named.get("end_user", ""),
        minute=minute,
        units=units,
        event_key=UUID(named["event_key"]) if "event_key" in named else None,
        admission=named.get("admission", ""),
        call_id=named.get("call_id", ""),
    )
