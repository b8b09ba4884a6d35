"""What still counts: events that nothing corrected, and amendments that nothing corrected, as a source of readings.

Comparing, rebuilding and bill checks read totals out of it as if there were no corrections at all.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from metering.aggregation.members import Sql

# `{taken}` is a condition on a batch `b`: which batches are looked at. An amendment counts under its own key, at the
# time and in the series of the event that was metered first.
COUNTING = """
SELECT e.organisation_id, e.type, e.project_id, e.api_key_id, e.time, e.key, e.data
FROM event e JOIN ingest_batch b
  ON b.organisation_id = e.organisation_id AND b.id = e.batch_id AND b.receipt_month = e.receipt_month
WHERE e.organisation_id = %s AND b.organisation_id = %s AND {taken}{near}
  AND e.time >= %s AND e.time < %s AND e.type = ANY(%s)
  AND NOT EXISTS (
    SELECT FROM event_correction c JOIN ingest_batch b ON b.organisation_id = c.organisation_id AND b.id = c.batch_id
    WHERE c.organisation_id = %s AND b.organisation_id = %s AND {taken}
      AND c.original_key = e.key AND c.original_month = e.receipt_month)
UNION ALL
SELECT c.organisation_id, c.type, c.project_id, c.api_key_id, c.time, c.key, c.counted_instead
FROM event_correction c JOIN ingest_batch b ON b.organisation_id = c.organisation_id AND b.id = c.batch_id
WHERE c.organisation_id = %s AND b.organisation_id = %s AND {taken}
  AND c.time >= %s AND c.time < %s AND c.type = ANY(%s) AND c.counted_instead IS NOT NULL
  AND NOT EXISTS (
    SELECT FROM event_correction l JOIN ingest_batch b ON b.organisation_id = l.organisation_id AND b.id = l.batch_id
    WHERE l.organisation_id = %s AND b.organisation_id = %s AND {taken}
      AND l.original_key = c.key AND l.original_month = c.receipt_month)"""
# Batches know the times of their events.
NEAR = " AND b.first_time < %s AND b.last_time >= %s"
IN_QUARTERS = """
SELECT * FROM ({source}) AS counting WHERE date_bin('15 minutes', time, '2000-01-01 00:00+00') = ANY(%s)"""

FOLDED = Sql("b.folded_at IS NOT NULL")


def counting(
    organisation_id: int,
    start: datetime,
    end: datetime,
    types: Sequence[str],
    *,
    taken: Sql = FOLDED,
    trusts_batches: bool = True,
) -> Sql:
    """The events of these types in [start, end) that count by what the batches of a condition hold.

    Whether or not it `trusts_batches` about the times of their events: that is quicker, and no check.
    """
    one: tuple[Any, ...] = (organisation_id, organisation_id, *taken.params)
    span = (start, end, list(types))
    near = (end, start) if trusts_batches else ()
    params = (*one, *near, *span, *one, *one, *span, *one)
    return Sql(COUNTING.format(taken=taken.text, near=NEAR if near else ""), params)


def counting_in(organisation_id: int, quarters: Sequence[datetime], end: datetime, types: Sequence[str]) -> Sql:
    """The same of single quarter hours; `end` is that of the last one."""
    every = counting(organisation_id, min(quarters), end, types)
    return Sql(IN_QUARTERS.format(source=every.text), (*every.params, list(quarters)))
