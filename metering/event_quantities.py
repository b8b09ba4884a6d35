"""What events say an organisation used, computed from the events themselves and not from totals.

The same statement that folding adds up by, over the events that had come in by an instant: what a bill that was made
then should rest on. Reads every event of the range, whatever its batch says about times: for checking, not for pages.
"""

from collections.abc import Sequence
from datetime import datetime

from django.db import connection

from accounts.models import Organisation
from metering.aggregation.counting import counting
from metering.aggregation.members import Sql
from metering.aggregation.rules import event_types, rules_between, summed
from metering.aggregation.statement import readings
from metering.models.meters import ADDITIVE
from metering.reports.quantities import Quantity

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
    rules = summed(rules_between(start, end))
    if not rules:
        return []
    received = Sql("b.received_at <= %s", (received_by,))
    events = counting(organisation.pk, start, end, event_types(rules), taken=received, trusts_batches=False)
    keyed = readings(events, rules)
    with connection.cursor() as cursor:
        cursor.execute(_QUANTITIES.format(readings=keyed.text), [*keyed.params, edges[:-1], sorted(ADDITIVE)])
        rows = cursor.fetchall()
    return [Quantity(key, model, edges[part - 1], edges[part], value) for key, model, part, value in rows]
