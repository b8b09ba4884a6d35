"""What events say an organisation used, computed from the events themselves and not from totals.

The same statement that folding adds up by, over the events that had come in by an instant: what a bill that was made
then should rest on. Reads every event of the range, whatever its batch says about times: for checking, not for pages.
"""

from collections.abc import Sequence
from datetime import datetime

from django.db import connection

from accounts.models import Organisation
from metering.aggregation.statement import Sql, event_types, readings, rules_between, with_corrections
from metering.models.meters import ADDITIVE
from metering.reports.quantities import Quantity

_RECEIVED_BY = """
SELECT e.organisation_id, e.type, e.project_id, e.api_key_id, e.time, e.data, 1 AS sign
FROM event e JOIN ingest_batch b
  ON b.organisation_id = e.organisation_id AND b.id = e.batch_id AND b.receipt_month = e.receipt_month
WHERE b.organisation_id = %s AND b.received_at <= %s AND e.organisation_id = b.organisation_id
  AND e.time >= %s AND e.time < %s AND e.type = ANY(%s)"""
_CORRECTED_BY = """
c.organisation_id = %s AND c.time >= %s AND c.time < %s AND c.type = ANY(%s) AND EXISTS (
    SELECT FROM ingest_batch b
    WHERE b.organisation_id = c.organisation_id AND b.id = c.batch_id AND b.received_at <= %s)"""
_QUANTITIES = """
WITH {readings}
SELECT m.key, keyed.model, width_bucket(keyed.starts_at, %s::timestamptz[]) AS part, sum(keyed.value)
FROM keyed JOIN metering_meter m ON m.id = keyed.meter_id
WHERE m.aggregation = ANY(%s)
GROUP BY m.key, keyed.model, part ORDER BY m.key, keyed.model, part"""


def event_quantities(
    organisation: Organisation, *, start: datetime, end: datetime, splits: Sequence[datetime], received_by: datetime
) -> list[Quantity]:
    """Sums per additive meter and model in [start, end), cut at the splits, of events received up to an instant."""
    edges = [start, *sorted({at for at in splits if start < at < end}), end]
    rules = rules_between(start, end)
    if not rules:
        return []
    types = event_types(rules)
    events = Sql(_RECEIVED_BY, (organisation.pk, received_by, start, end, types))
    corrections = Sql(_CORRECTED_BY, (organisation.pk, start, end, types, received_by))
    keyed = readings(with_corrections(events, corrections), rules, is_signed=True)
    with connection.cursor() as cursor:
        cursor.execute(_QUANTITIES.format(readings=keyed.text), [*keyed.params, edges[:-1], sorted(ADDITIVE)])
        rows = cursor.fetchall()
    return [Quantity(key, model, edges[part - 1], edges[part], value) for key, model, part, value in rows]
