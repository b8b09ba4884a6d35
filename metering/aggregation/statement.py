"""The SQL that turns events into readings, sums per series and quarter hour; folding, comparing, rebuilding share it.

Every event is read once, whatever the number of meters: one row per set of dimensions and quarter hour with a sum for
each value field, which is then spread over the meters. Ten joined meters per event cost five times as much.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from metering.models import Aggregation, Meter
from metering.models.meters import FOLDABLE

# A string that counts as a number; intake accepts no other. What a meter defined later finds unreadable, it ignores.
DECIMAL_STRING = r"^-?[0-9]{1,60}([.][0-9]{1,60})?([eE][+-]?[0-9]{1,3})?$"

# A digest of all that tells series apart. Numbers first and the labels as JSON end by themselves, so that only the last
# part, the model, may hold anything and no two sets of dimensions read alike.
SERIES_ID = (
    "md5(concat_ws('/', m.meter_id, r.project_id, coalesce(r.api_key_id::text, '-'), m.labels::text, m.model))::uuid"
)

READINGS = """
reading AS MATERIALIZED (
    SELECT organisation_id, type, project_id, api_key_id, starts_at{dimension_names},
           {count} AS n, max(time) AS last_time{sums}
    FROM (
        SELECT organisation_id, type, project_id, api_key_id, time{sign},
               date_bin('15 minutes', time, '2000-01-01 00:00+00') AS starts_at{dimensions}{values}
        FROM ({source}) AS e
        OFFSET 0  -- a fence: each value is extracted once, not once per use
    ) AS e
    GROUP BY organisation_id, type, project_id, api_key_id, starts_at{dimension_names}
),
keyed AS MATERIALIZED (
    SELECT r.organisation_id, {series_id} AS series_id, m.meter_id, r.project_id, r.api_key_id, m.model, m.labels,
           r.starts_at, sum(m.value) AS value, sum(m.count)::bigint AS count
    FROM reading r
    CROSS JOIN LATERAL (VALUES {meters}) AS m (meter_id, event_type, value, count, model, labels)
    WHERE m.event_type = r.type AND {is_fed}
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8{net}
)"""

# With corrections among them, readings are differences: less of one thing and more of another. What comes to nothing
# at all is left out.
PLAIN = {"sign": "", "count": "count(*)", "is_fed": "m.count > 0", "net": ""}
SIGNED = {
    "sign": ", sign",
    "count": "sum(sign)",
    "is_fed": "m.value IS NOT NULL",
    "net": "\n    HAVING sum(m.count) <> 0 OR sum(m.value) <> 0",
}
PLAIN_SUM = ", sum(v{i}) AS s{i}, count(v{i}) AS n{i}"
SIGNED_SUM = ", sum(sign * v{i}) AS s{i}, sum(sign) FILTER (WHERE v{i} IS NOT NULL) AS n{i}"

# What corrections take back and count instead, as events with a sign; `c` is the correction.
CORRECTIONS = """
SELECT c.organisation_id, c.type, c.project_id, c.api_key_id, c.time, part.data, part.sign
FROM event_correction c CROSS JOIN LATERAL (VALUES (c.taken_back, -1), (c.counted_instead, 1)) AS part (data, sign)
WHERE part.data IS NOT NULL AND {condition}"""

VALUE = """
CASE jsonb_typeof(data -> %s::text)
    WHEN 'number' THEN (data -> %s::text)::numeric
    WHEN 'string' THEN CASE WHEN data ->> %s::text ~ %s THEN (data ->> %s::text)::numeric END
END"""


@dataclass(frozen=True, slots=True)
class Sql:
    """Text with %s places and what goes into them."""

    text: str
    params: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """A meter as the statement needs it. `since` and `until` are None where every event at hand lies inside."""

    meter_id: int
    event_type: str
    value_field: str
    dimensions: tuple[str, ...]
    since: datetime | None
    until: datetime | None

    @property
    def column(self) -> tuple[str, datetime | None, datetime | None]:
        """What the value is extracted by: meters that agree on it share a column."""
        return self.value_field, self.since, self.until


def rules_between(first: datetime, last: datetime) -> tuple[Rule, ...]:
    """The meters that read events of `first` to `last`, both included; an archived one reads what came before that."""
    meters = Meter.objects.filter(aggregation__in=FOLDABLE, effective_from__lte=last).order_by("pk")
    return tuple(
        Rule(
            meter_id=meter.pk,
            event_type=meter.event_type,
            value_field="" if meter.aggregation == Aggregation.COUNT else meter.value_field,
            dimensions=tuple(meter.dimensions),
            since=meter.effective_from if meter.effective_from > first else None,
            until=meter.archived_at if meter.archived_at is not None and meter.archived_at <= last else None,
        )
        for meter in meters
        if meter.archived_at is None or meter.archived_at > first
    )


def with_corrections(events: Sql, condition: Sql) -> Sql:
    """A signed source: a query for events that ends in `1 AS sign`, and the corrections `c` of a condition."""
    text = f"{events.text} UNION ALL {CORRECTIONS.format(condition=condition.text)}"
    return Sql(text, events.params + condition.params)


def event_types(rules: Iterable[Rule]) -> list[str]:
    return sorted({rule.event_type for rule in rules})


def readings(source: Sql, rules: Sequence[Rule], *, is_signed: bool = False) -> Sql:
    """Two common table expressions, `reading` and `keyed`, over a query that yields organisation_id, type, project_id,
    api_key_id, time, data and, `is_signed`, a sign of 1 or -1. There must be at least one rule.
    """
    columns = {column: f"{number}" for number, column in enumerate(dict.fromkeys(rule.column for rule in rules))}
    names = dict.fromkeys(name for rule in rules for name in ("model", *rule.dimensions))
    dimensions = {name: f"d{number}" for number, name in enumerate(names)}
    extracted = _join([_dimension(name, alias) for name, alias in dimensions.items()])
    values = _join([_value(column, alias) for column, alias in columns.items() if column != COUNT])
    meters = [_meter(rule, columns[rule.column], dimensions) for rule in rules]
    form, sums = (SIGNED, SIGNED_SUM) if is_signed else (PLAIN, PLAIN_SUM)
    text = READINGS.format(
        **form,
        series_id=SERIES_ID,
        dimension_names="".join(f", {alias}" for alias in dimensions.values()),
        dimensions=extracted.text,
        values=values.text,
        sums="".join(sums.format(i=i) for column, i in columns.items() if column != COUNT),
        source=source.text,
        meters=", ".join(meter.text for meter in meters),
    )
    return Sql(text, extracted.params + values.params + source.params + sum((meter.params for meter in meters), ()))


# Counting every event needs no column of its own: the number of rows is there anyway.
COUNT = ("", None, None)


def _join(parts: Sequence[Sql]) -> Sql:
    return Sql("".join(f", {part.text}" for part in parts), sum((part.params for part in parts), ()))


def _dimension(name: str, alias: str) -> Sql:
    if name == "model":
        return Sql(f"coalesce(data ->> 'model', '') AS {alias}")
    return Sql(f"data ->> %s::text AS {alias}", (name,))


def _value(column: tuple[str, datetime | None, datetime | None], alias: str) -> Sql:
    field, since, until = column
    value = Sql(VALUE, (field, field, field, DECIMAL_STRING, field)) if field else Sql("1::numeric")
    if since is None and until is None:
        return Sql(f"{value.text} AS v{alias}", value.params)
    return Sql(
        f"CASE WHEN time >= coalesce(%s, '-infinity'::timestamptz) AND time < coalesce(%s, 'infinity'::timestamptz)"
        f" THEN {value.text} END AS v{alias}",
        (since, until, *value.params),
    )


def _meter(rule: Rule, alias: str, dimensions: dict[str, str]) -> Sql:
    value, count = ("r.n::numeric", "r.n") if rule.column == COUNT else (f"r.s{alias}", f"r.n{alias}")
    model = f"r.{dimensions['model']}" if "model" in rule.dimensions else "''::text"
    others = [name for name in rule.dimensions if name != "model"]
    pairs = ", ".join(f"%s::text, r.{dimensions[name]}" for name in others)
    return Sql(
        f"(%s::bigint, %s::text, {value}, {count}, {model}, jsonb_strip_nulls(jsonb_build_object({pairs})))",
        (rule.meter_id, rule.event_type, *others),
    )
