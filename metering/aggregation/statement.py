"""The SQL that turns events into readings, sums per series and quarter hour; folding, comparing, rebuilding share it.

Every event is read once, whatever the number of meters: one row per set of dimensions and quarter hour with a sum for
each value field, which is then spread over the meters. Ten joined meters per event cost five times as much.
"""

from collections.abc import Sequence
from typing import Any

from metering.aggregation.members import Sql, conditions, dimension, joined, member, number_in
from metering.aggregation.rules import Dimension, Rule

# A digest of all that tells series apart. Numbers first and the labels as JSON end by themselves, so that only the last
# part, the model, may hold anything and no two sets of dimensions read alike.
SERIES_ID = (
    "md5(concat_ws('/', m.meter_id, r.project_id, coalesce(r.api_key_id::text, '-'), m.labels::text, m.model))::uuid"
)

# The zone of each row's organisation as `days_zone`: one look-up by key a row. Nobody knows beforehand how many rows
# there are, and a join that is planned for a few goes through all of them once for every organisation.
ZONES = """CROSS JOIN LATERAL (
    SELECT days_zone FROM accounts_organisation WHERE id = {of}.organisation_id OFFSET 0) AS zone"""

READINGS = """
reading AS MATERIALIZED (
    SELECT organisation_id, type, project_id, api_key_id, starts_at{dimension_names},
           {count} AS n, max(time) AS last_time{sums}
    FROM (
        SELECT organisation_id, type, project_id, api_key_id, time{sign},
               date_bin('{step}', time, '2000-01-01 00:00+00') AS starts_at{extracted}
        FROM (SELECT *{members} FROM ({source}) AS e OFFSET 0) AS e
        OFFSET 0  -- fences: each member is looked for once and each value extracted once, not once per use
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


def with_corrections(events: Sql, condition: Sql) -> Sql:
    """A signed source: a query for events that ends in `1 AS sign`, and the corrections `c` of a condition."""
    text = f"{events.text} UNION ALL {CORRECTIONS.format(condition=condition.text)}"
    return Sql(text, events.params + condition.params)


def readings(source: Sql, rules: Sequence[Rule], *, is_signed: bool = False, step: str = "15 minutes") -> Sql:
    """Two common table expressions, `reading` and `keyed`, over a query that yields organisation_id, type, project_id,
    api_key_id, time, data and, `is_signed`, a sign of 1 or -1. There must be at least one rule. `starts_at` is that of
    the `step`; totals are kept in quarter hours.
    """
    columns = {column: f"{place}" for place, column in enumerate(dict.fromkeys(rule.column for rule in rules))}
    dimensions = dimension_columns(rules)
    paths = dict.fromkeys(path for path, *_ in columns if path)
    places = {path: f"m{place}" for place, path in enumerate(paths)}
    members = joined([_member(path, alias) for path, alias in places.items()], "", before=", ")
    values = [_value(column, alias, places) for column, alias in columns.items() if column != COUNT]
    extracted = joined([*dimension_values(dimensions), *values], "", before=", ")
    meters = [_meter(rule, columns[rule.column], dimensions) for rule in rules]
    form, sums = (SIGNED, SIGNED_SUM) if is_signed else (PLAIN, PLAIN_SUM)
    text = READINGS.format(
        **form,
        step=step,
        series_id=SERIES_ID,
        dimension_names="".join(f", {alias}" for alias in dimensions.values()),
        extracted=extracted.text,
        members=members.text,
        sums="".join(sums.format(i=i) for column, i in columns.items() if column != COUNT),
        source=source.text,
        meters=", ".join(meter.text for meter in meters),
    )
    read = extracted.params + members.params + source.params
    return Sql(text, read + sum((meter.params for meter in meters), ()))


# Counting every event needs no column of its own: the number of rows is there anyway.
COUNT = ("", None, None, ())
MODEL = Dimension("model", None)

# What stands in place of labels where there are too many series, and the dimensions that prices depend on.
OTHER = "(other)"
PRICED_BY = frozenset({"model", "service_tier", "context_tier", "cache_ttl", "region"})
BOUNDED = """
CASE WHEN coalesce(r.{column}, '') <> '' AND EXISTS (
    SELECT FROM metering_serieslimit l
    WHERE l.organisation_id = r.organisation_id AND l.meter_id = %s
      AND l.starts_at <= r.starts_at AND r.starts_at < l.ends_at)
THEN %s::text ELSE r.{column} END"""


def dimension_columns(rules: Sequence[Rule]) -> dict[Dimension, str]:
    """Every dimension that the rules keep apart, and the column that holds it; the model is always there."""
    found = dict.fromkeys((MODEL, *(one for rule in rules for one in rule.dimensions)))
    return {one: f"d{place}" for place, one in enumerate(found)}


def dimension_values(columns: dict[Dimension, str]) -> list[Sql]:
    """The expressions of those columns over `data`, each with its name."""
    return [
        Sql("coalesce(data ->> 'model', '') AS d0"),
        *(_labelled(one, columns[one]) for one in columns if one != MODEL),
    ]


def model_and_labels(rule: Rule, columns: dict[Dimension, str]) -> Sql:
    """The last two places of a meter's row: its model, and its other dimensions as an object."""
    labels = [one for one in rule.dimensions if one != MODEL]
    dropped = _dropped_where_bounded(rule)
    found = {one: _shown(columns[one], rule, one in dropped) for one in (MODEL, *labels)}
    model = found[MODEL] if MODEL in rule.dimensions else Sql("''::text")
    pairs = joined([Sql(f"%s::text, {found[one].text}", (one.name, *found[one].params)) for one in labels], ", ")
    return Sql(f"{model.text}, jsonb_strip_nulls(jsonb_build_object({pairs.text}))", model.params + pairs.params)


def _dropped_where_bounded(rule: Rule) -> set[Dimension]:
    """The dimensions that read "(other)" where there are too many series: those that no price looks at, or all."""
    optional = {one for one in rule.dimensions if one.name not in PRICED_BY}
    return optional or set(rule.dimensions)


def _shown(column: str, rule: Rule, is_dropped: bool) -> Sql:
    """The dimension's column; where its organisation is bounded and it has a value, what stands for all others."""
    if not rule.is_bounded or not is_dropped:
        return Sql(f"r.{column}")
    return Sql(BOUNDED.format(column=column), (rule.meter_id, OTHER))


def within(rule_column: tuple[Any, ...], value: Sql) -> Sql:
    """The value of events that the column's instants and conditions let through; null of others."""
    _, since, until, filters = rule_column
    parts = [conditions(filters)] if filters else []
    if since is not None or until is not None:
        span = "time >= coalesce(%s, '-infinity'::timestamptz) AND time < coalesce(%s, 'infinity'::timestamptz)"
        parts.insert(0, Sql(span, (since, until)))
    if not parts:
        return value
    condition = joined(parts, " AND ")
    return Sql(f"CASE WHEN {condition.text} THEN {value.text} END", condition.params + value.params)


def _labelled(one: Dimension, alias: str) -> Sql:
    found = dimension(one.name, one.tiers)
    return Sql(f"{found.text} AS {alias}", found.params)


def _member(path: str, alias: str) -> Sql:
    found = member(path)
    return Sql(f"{found.text} AS {alias}", found.params)


def _value(column: tuple[Any, ...], alias: str, members: dict[str, str]) -> Sql:
    path = column[0]
    value = within(column, number_in(Sql(members[path])) if path else Sql("1::numeric"))
    return Sql(f"{value.text} AS v{alias}", value.params)


def _meter(rule: Rule, alias: str, dimensions: dict[Dimension, str]) -> Sql:
    value, count = ("r.n::numeric", "r.n") if rule.column == COUNT else (f"r.s{alias}", f"r.n{alias}")
    place = model_and_labels(rule, dimensions)
    return Sql(
        f"(%s::bigint, %s::text, {value}, {count}, {place.text})", (rule.meter_id, rule.event_type, *place.params)
    )
