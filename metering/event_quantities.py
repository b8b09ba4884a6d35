"""What events say an organisation used, computed from the events themselves and not from totals.

The same statement that folding adds up by, over the events that had come in by an instant: what a bill that was made
then should rest on. Reads every event of the range, whatever its batch says about times: for checking, not for pages.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection

from accounts.models import Organisation
from metering.aggregation.counting import counting
from metering.aggregation.entries import entries
from metering.aggregation.members import Sql
from metering.aggregation.rules import Rule, event_types, others, rules_between, summed
from metering.aggregation.statement import readings
from metering.exact import average
from metering.models import Aggregation
from metering.models.meters import ADDITIVE
from metering.reports.quantities import Quantity, in_order, label_columns, label_positions, labelling

_QUANTITIES = """
WITH {readings}
SELECT m.key, s.model, width_bucket(s.starts_at, %s::timestamptz[]) AS part, sum(s.value){labels}
FROM keyed s JOIN metering_meter m ON m.id = s.meter_id
WHERE m.aggregation = ANY(%s)
GROUP BY m.key, s.model, part{positions} ORDER BY m.key, s.model, part{positions}"""
_PERIOD_VALUES = """
WITH {entries}
SELECT m.key, CASE m.aggregation WHEN 'max' THEN max(s.value) WHEN 'min' THEN min(s.value) WHEN 'latest' THEN
           (array_agg(s.value ORDER BY s.latest_at DESC, s.latest_key DESC) FILTER (WHERE m.aggregation = 'latest'))[1]
       ELSE (SELECT count(DISTINCT digest)::numeric FROM entry WHERE entry.meter_id = m.id) END
FROM part s JOIN metering_meter m ON m.id = s.meter_id GROUP BY m.id, m.key, m.aggregation ORDER BY m.key"""
_AVERAGES = """
WITH {readings}
SELECT m.key, sum(s.value), sum(s.count)::bigint FROM keyed s JOIN metering_meter m ON m.id = s.meter_id
WHERE m.aggregation = 'average' GROUP BY m.key ORDER BY m.key"""


def event_quantities(
    organisation: Organisation,
    *,
    start: datetime,
    end: datetime,
    splits: Sequence[datetime],
    received_by: datetime,
    dimensions: Sequence[str] = (),
) -> list[Quantity]:
    """Sums per additive meter, model and dimensions in [start, end), cut at the splits, of events received up to an
    instant."""
    edges = [start, *sorted({at for at in splits if start < at < end}), end]
    rules = summed(rules_between(start, end))
    if not rules:
        return []
    keyed = readings(_received(organisation, start, end, rules, received_by), rules)
    labels = label_columns(dimensions)
    sql = _QUANTITIES.format(readings=keyed.text, labels=labels.text, positions=label_positions(dimensions))
    rows = _fetch(sql, [*keyed.params, edges[:-1], *labels.params, sorted(ADDITIVE)])
    label = labelling([organisation], dimensions)
    return in_order(
        [
            Quantity(key, model, edges[part - 1], edges[part], value, label(found))
            for key, model, part, value, *found in rows
        ]
    )


def event_period_values(
    organisation: Organisation, *, start: datetime, end: datetime, received_by: datetime
) -> list[Quantity]:
    """What `reports.period_values` should say, of events received up to an instant."""
    rules = rules_between(start, end)
    rest, averages = others(rules), [rule for rule in rules if rule.aggregation == Aggregation.AVERAGE]
    found: dict[str, Decimal] = {}
    if rest:
        read = entries(_received(organisation, start, end, rest, received_by), rest)
        found |= dict(_fetch(_PERIOD_VALUES.format(entries=read.text), read.params))
    if averages:
        read = readings(_received(organisation, start, end, averages, received_by), averages)
        rows = _fetch(_AVERAGES.format(readings=read.text), read.params)
        found |= {key: average(total, count) for key, total, count in rows}
    return in_order([Quantity(key, "", start, end, value) for key, value in found.items()])


def _received(
    organisation: Organisation, start: datetime, end: datetime, rules: Sequence[Rule], received_by: datetime
) -> Sql:
    taken = Sql("b.received_at <= %s", (received_by,))
    return counting(organisation.pk, start, end, event_types(rules), taken=taken, trusts_batches=False)


def _fetch(sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()
