"""What totals should be: the SQL that comparing, rebuilding and remaking share, for all aggregations at once."""

from collections.abc import Sequence

from metering.aggregation.entries import entries
from metering.aggregation.members import Sql
from metering.aggregation.rules import Rule, others, summed
from metering.aggregation.statement import readings

OF_SUMS = """
SELECT organisation_id, series_id, meter_id, project_id, api_key_id, model, labels, starts_at, value, count,
       NULL::timestamptz AS latest_at, NULL::uuid AS latest_key FROM keyed"""
OF_OTHERS = """
SELECT organisation_id, series_id, meter_id, project_id, api_key_id, model, labels, starts_at, value, count,
       latest_at, latest_key FROM state"""
VALUES_OF_OTHERS = "SELECT organisation_id, series_id, starts_at, digest FROM entry"
NO_VALUES = "SELECT organisation_id, series_id, starts_at, digest FROM usage_unique WHERE false"

EXPECTED = """
{expressions},
expected AS ({totals}),
expected_value AS ({values})"""
NOTHING = """
expected AS (
    SELECT u.organisation_id, u.series_id, s.meter_id, s.project_id, s.api_key_id, s.model, s.labels, u.starts_at,
           u.value, u.count, u.latest_at, u.latest_key
    FROM usage_interval u JOIN series s ON s.organisation_id = u.organisation_id AND s.id = u.series_id WHERE false),
expected_value AS (SELECT organisation_id, series_id, starts_at, digest FROM usage_unique WHERE false)"""

# The days that quarter hours come to; `{which}` narrows the quarter hours `u`, `` the days.
DAYS = """
SELECT organisation_id, series_id, day,
       CASE WHEN kind = 'unique_count' THEN (
           SELECT count(DISTINCT q.digest)::numeric FROM usage_unique q
           WHERE q.organisation_id = d.organisation_id AND q.series_id = d.series_id
             AND q.starts_at >= d.day - 1 AND q.starts_at < d.day + 2
             AND (q.starts_at AT TIME ZONE d.days_zone)::date = d.day)
       ELSE value END AS value, count, latest_at, latest_key
FROM (
    SELECT u.organisation_id, u.series_id, (u.starts_at AT TIME ZONE o.days_zone)::date AS day, o.days_zone,
           m.aggregation AS kind, sum(u.count)::bigint AS count,
           CASE m.aggregation WHEN 'max' THEN max(u.value) WHEN 'min' THEN min(u.value) WHEN 'latest' THEN
               (array_agg(u.value ORDER BY u.latest_at DESC, u.latest_key DESC)
                    FILTER (WHERE m.aggregation = 'latest'))[1]
           ELSE sum(u.value) END AS value,
           max(u.latest_at) AS latest_at,
           (array_agg(u.latest_key ORDER BY u.latest_at DESC, u.latest_key DESC)
                FILTER (WHERE m.aggregation = 'latest'))[1] AS latest_key
    FROM usage_interval u JOIN accounts_organisation o ON o.id = u.organisation_id
    LEFT JOIN series s ON s.organisation_id = u.organisation_id AND s.id = u.series_id
    LEFT JOIN metering_meter m ON m.id = s.meter_id
    WHERE {which} GROUP BY 1, 2, 3, 4, 5
) AS d"""
DAY_VALUES = """
SELECT DISTINCT u.organisation_id, u.series_id, (u.starts_at AT TIME ZONE o.days_zone)::date AS day, u.digest
FROM usage_unique u JOIN accounts_organisation o ON o.id = u.organisation_id WHERE {which}"""


def expected(source: Sql | None, rules: Sequence[Rule]) -> Sql:
    """Common table expressions that end in `expected`, totals by series and quarter hour, and `expected_value`, the
    different values; over a source as `counting` makes it, None for one without events.
    """
    if source is None or not rules:
        return Sql(NOTHING)
    sums, rest = summed(rules), others(rules)
    parts = [readings(source, sums)] if sums else []
    parts += [entries(source, rest)] if rest else []
    totals = [OF_SUMS] if sums else []
    totals += [OF_OTHERS] if rest else []
    text = EXPECTED.format(
        expressions=",".join(part.text for part in parts),
        totals=" UNION ALL ".join(totals),
        values=VALUES_OF_OTHERS if rest else NO_VALUES,
    )
    return Sql(text, sum((part.params for part in parts), ()))
