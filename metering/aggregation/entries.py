"""The SQL for meters that are no sums: largest, smallest, latest value, number of different values.

Events of the same dimensions are put together first, for each value field in its meter's way, and spread over the
meters afterwards; a state is what comes of it for a series in a quarter hour. Nothing runs where there is no such
meter. States of two groups of events are
merged, never subtracted: what corrections take back, `remaking` makes anew from the events that still count.
"""

from collections.abc import Sequence

from metering.aggregation.members import Sql, digest, joined, number
from metering.aggregation.rules import Rule
from metering.aggregation.statement import (
    SERIES_ID,
    ZONES,
    dimension_columns,
    dimension_values,
    model_and_labels,
    within,
)
from metering.models import Aggregation

MAX, MIN, LATEST, UNIQUE = Aggregation.MAX, Aggregation.MIN, Aggregation.LATEST, Aggregation.UNIQUE_COUNT

ENTRIES = """
read AS MATERIALIZED (
    SELECT organisation_id, type, project_id, api_key_id, time, key,
           date_bin('15 minutes', time, '2000-01-01 00:00+00') AS starts_at{extracted}
    FROM ({source}) AS e
    OFFSET 0  -- a fence: each value is extracted once
),
grouped AS MATERIALIZED (
    SELECT organisation_id, type, project_id, api_key_id, starts_at{dimensions}, max(time) AS last_time{figures}
    FROM read GROUP BY organisation_id, type, project_id, api_key_id, starts_at{dimensions}
),
part AS MATERIALIZED (
    SELECT r.organisation_id, {series_id} AS series_id, m.meter_id, r.project_id, r.api_key_id, m.model, m.labels,
           r.starts_at, m.kind, m.value, m.count, m.latest_at, m.latest_key, m.digests
    FROM grouped r CROSS JOIN LATERAL (VALUES {meters}) AS m
        (meter_id, event_type, kind, count, value, latest_at, latest_key, digests, model, labels)
    WHERE m.event_type = r.type AND m.count > 0
),
entry AS MATERIALIZED (
    SELECT DISTINCT organisation_id, series_id, meter_id, starts_at, digest
    FROM part CROSS JOIN LATERAL unnest(digests) AS digest
),
state AS MATERIALIZED (
    SELECT s.organisation_id, s.series_id, meter_id, project_id, api_key_id, model, labels, s.starts_at, kind,
           coalesce(value, different) AS value, count, latest_at, latest_key
    FROM (
        SELECT organisation_id, series_id, meter_id, project_id, api_key_id, model, labels, starts_at, kind,
               CASE kind WHEN 'max' THEN max(value) WHEN 'min' THEN min(value) WHEN 'latest' THEN
                   (array_agg(value ORDER BY latest_at DESC, latest_key DESC) FILTER (WHERE kind = 'latest'))[1]
               END AS value,
               sum(count)::bigint AS count, max(latest_at) AS latest_at,
               (array_agg(latest_key ORDER BY latest_at DESC, latest_key DESC)
                    FILTER (WHERE kind = 'latest'))[1] AS latest_key
        FROM part GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
    ) AS s
    LEFT JOIN (
        SELECT organisation_id, series_id, starts_at, count(*)::numeric AS different FROM entry GROUP BY 1, 2, 3
    ) AS d ON d.organisation_id = s.organisation_id AND d.series_id = s.series_id AND d.starts_at = s.starts_at
)"""

# What is made of a value's column among events of the same dimensions, and how the meter's row takes it up.
FIGURES = {
    MAX: "count({v}) AS n{v}, max({v}) AS s{v}",
    MIN: "count({v}) AS n{v}, min({v}) AS s{v}",
    UNIQUE: "count({v}) AS n{v}, array_agg(DISTINCT {v}) FILTER (WHERE {v} IS NOT NULL) AS s{v}",
    LATEST: """count({v}) AS n{v}, max(time) FILTER (WHERE {v} IS NOT NULL) AS t{v},
           (array_agg({v} ORDER BY time DESC, key DESC) FILTER (WHERE {v} IS NOT NULL))[1] AS s{v},
           (array_agg(key ORDER BY time DESC, key DESC) FILTER (WHERE {v} IS NOT NULL))[1] AS k{v}""",
}
TAKEN = {
    MAX: "r.s{v}, NULL::timestamptz, NULL::uuid, NULL::uuid[]",
    MIN: "r.s{v}, NULL::timestamptz, NULL::uuid, NULL::uuid[]",
    UNIQUE: "NULL::numeric, NULL::timestamptz, NULL::uuid, r.s{v}",
    LATEST: "r.s{v}, r.t{v}, r.k{v}, NULL::uuid[]",
}

# How a state is merged into the one that is kept. Of different values, only those that were not there yet are added.
MERGES = {
    MAX: "value = greatest(kept.value, excluded.value), count = kept.count + excluded.count",
    MIN: "value = least(kept.value, excluded.value), count = kept.count + excluded.count",
    UNIQUE: "value = kept.value + excluded.value, count = kept.count + excluded.count",
    LATEST: """count = kept.count + excluded.count,
        value = CASE WHEN (excluded.latest_at, excluded.latest_key) > (kept.latest_at, kept.latest_key)
            THEN excluded.value ELSE kept.value END,
        latest_key = CASE WHEN (excluded.latest_at, excluded.latest_key) > (kept.latest_at, kept.latest_key)
            THEN excluded.latest_key ELSE kept.latest_key END,
        latest_at = greatest(kept.latest_at, excluded.latest_at)""",
}

# By kind; what comes to the same grouped by day as by quarter hour.
MERGE = """
{kind}_intervals AS (
    INSERT INTO usage_interval AS kept (organisation_id, series_id, starts_at, value, count, latest_at, latest_key)
    SELECT organisation_id, series_id, starts_at, value, count, latest_at, latest_key
    FROM {states} AS merged ORDER BY organisation_id, series_id, starts_at
    ON CONFLICT (organisation_id, series_id, starts_at) DO UPDATE SET {merge}
),
{kind}_days AS (
    INSERT INTO usage_day AS kept (organisation_id, series_id, day, value, count, latest_at, latest_key)
    SELECT organisation_id, series_id, day, value, count, latest_at, latest_key
    FROM {day_states} AS merged ORDER BY organisation_id, series_id, day
    ON CONFLICT (organisation_id, series_id, day) DO UPDATE SET {merge}
)"""
DAY_STATE = """
day_state AS MATERIALIZED (
    SELECT s.organisation_id, series_id, (starts_at AT TIME ZONE days_zone)::date AS day, kind,
           CASE kind WHEN 'max' THEN max(value) WHEN 'min' THEN min(value) WHEN 'latest' THEN
               (array_agg(value ORDER BY latest_at DESC, latest_key DESC) FILTER (WHERE kind = 'latest'))[1]
           END AS value,
           sum(count)::bigint AS count, max(latest_at) AS latest_at,
           (array_agg(latest_key ORDER BY latest_at DESC, latest_key DESC)
                FILTER (WHERE kind = 'latest'))[1] AS latest_key
    FROM state s {zones} GROUP BY 1, 2, 3, 4
)"""
DIGESTS = """
new_values AS (
    INSERT INTO usage_unique (organisation_id, series_id, starts_at, digest)
    SELECT organisation_id, series_id, starts_at, digest FROM entry ORDER BY 1, 2, 3, 4
    ON CONFLICT DO NOTHING RETURNING organisation_id, series_id, starts_at
),
new_day_values AS (
    INSERT INTO usage_unique_day (organisation_id, series_id, day, digest)
    SELECT DISTINCT e.organisation_id, series_id, (starts_at AT TIME ZONE days_zone)::date, digest
    FROM entry e {zones} ORDER BY 1, 2, 3, 4
    ON CONFLICT DO NOTHING RETURNING organisation_id, series_id, day
)"""
OF_KIND = "(SELECT * FROM {state} WHERE kind = '{kind}')"
# With the number of values that were not there yet; put together by grouping, since a look-up of each state's values
# would go through all of them every time.
WITH_NEW_VALUES = """(
    SELECT organisation_id, series_id, {at}, sum(value) AS value, sum(count)::bigint AS count,
           NULL::timestamptz AS latest_at, NULL::uuid AS latest_key
    FROM (
        SELECT organisation_id, series_id, {at}, 0 AS value, count FROM {state} WHERE kind = 'unique_count'
        UNION ALL SELECT organisation_id, series_id, {at}, 1, 0 FROM {new_values}
    ) AS counted GROUP BY 1, 2, 3)"""


def entries(source: Sql, rules: Sequence[Rule]) -> Sql:
    """Common table expressions over a query that yields organisation_id, type, project_id, api_key_id, time, key and
    data: `grouped`, `part`, `entry` (the different values) and `state`. There must be at least one rule, none of a sum.
    """
    dimensions = dimension_columns(rules)
    values = [_value(rule, f"v{place}") for place, rule in enumerate(rules)]
    extracted = joined([*dimension_values(dimensions), *values], "", before=", ")
    meters = [_meter(rule, f"v{place}", model_and_labels(rule, dimensions)) for place, rule in enumerate(rules)]
    kinds = [(f"v{place}", Aggregation(rule.aggregation)) for place, rule in enumerate(rules)]
    text = ENTRIES.format(
        series_id=SERIES_ID,
        extracted=extracted.text,
        dimensions="".join(f", {alias}" for alias in dimensions.values()),
        figures="".join(f", {FIGURES[kind].format(v=alias)}" for alias, kind in kinds),
        source=source.text,
        meters=", ".join(meter.text for meter in meters),
    )
    return Sql(text, extracted.params + source.params + sum((meter.params for meter in meters), ()))


def merges(rules: Sequence[Rule]) -> str:
    """The common table expressions that merge `state` into what is kept, for the kinds that the rules are of."""
    kinds = sorted({rule.aggregation for rule in rules})
    parts = [DAY_STATE.format(zones=ZONES.format(of="s"))]
    parts += [DIGESTS.format(zones=ZONES.format(of="e"))] if UNIQUE in kinds else []
    for kind in kinds:
        states, day_states = OF_KIND.format(state="state", kind=kind), OF_KIND.format(state="day_state", kind=kind)
        if kind == UNIQUE:
            states = WITH_NEW_VALUES.format(state="state", at="starts_at", new_values="new_values")
            day_states = WITH_NEW_VALUES.format(state="day_state", at="day", new_values="new_day_values")
        parts.append(MERGE.format(kind=kind, merge=MERGES[Aggregation(kind)], states=states, day_states=day_states))
    return ",".join(parts)


def _value(rule: Rule, alias: str) -> Sql:
    extract = digest if rule.aggregation == UNIQUE else number
    value = within(rule.column, extract(rule.value_field))
    return Sql(f"{value.text} AS {alias}", value.params)


def _meter(rule: Rule, alias: str, place: Sql) -> Sql:
    taken = TAKEN[Aggregation(rule.aggregation)].format(v=alias)
    return Sql(
        f"(%s::bigint, %s::text, %s::text, r.n{alias}, {taken}, {place.text})",
        (rule.meter_id, rule.event_type, rule.aggregation, *place.params),
    )
