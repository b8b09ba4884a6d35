"""Totals that cannot be subtracted, made anew where corrections fell: single quarter hours, and the days they are of.

Runs inside a fold that is alone with the organisation, after its batches are marked as folded.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from metering.aggregation.changes import note_written
from metering.aggregation.counting import counting_in
from metering.aggregation.expecting import expected
from metering.aggregation.members import Sql
from metering.aggregation.rules import Rule, event_types
from metering.aggregation.writing import insert_days, insert_totals
from metering.quarter_hours import QUARTER_HOUR

# Where the corrections of batches fall that take something back from a meter of these types.
CORRECTED_QUARTERS = """
SELECT DISTINCT date_bin('15 minutes', time, '2000-01-01 00:00+00') FROM event_correction
WHERE organisation_id = %s AND batch_id = ANY(%s) AND type = ANY(%s) ORDER BY 1"""

DELETE_QUARTERS = """
WITH of_meters AS (SELECT id FROM series WHERE organisation_id = %s AND meter_id = ANY(%s)),
without_values AS (
    DELETE FROM usage_unique
    WHERE organisation_id = %s AND starts_at = ANY(%s) AND series_id IN (SELECT id FROM of_meters))
DELETE FROM usage_interval
WHERE organisation_id = %s AND starts_at = ANY(%s) AND series_id IN (SELECT id FROM of_meters)"""
DAYS_OF_QUARTERS = """
SELECT DISTINCT (q AT TIME ZONE o.days_zone)::date FROM unnest(%s::timestamptz[]) AS q, accounts_organisation o
WHERE o.id = %s ORDER BY 1"""
DELETE_DAYS = """
WITH of_meters AS (SELECT id FROM series WHERE organisation_id = %s AND meter_id = ANY(%s)),
without_values AS (
    DELETE FROM usage_unique_day
    WHERE organisation_id = %s AND day = ANY(%s) AND series_id IN (SELECT id FROM of_meters))
DELETE FROM usage_day WHERE organisation_id = %s AND day = ANY(%s) AND series_id IN (SELECT id FROM of_meters)"""
# No zone is further from UTC than 14 hours.
THESE_DAYS = """
u.organisation_id = %s AND u.series_id IN (SELECT id FROM series WHERE organisation_id = %s AND meter_id = ANY(%s))
AND u.starts_at >= %s::date - 1 AND u.starts_at < %s::date + 2
AND (u.starts_at AT TIME ZONE o.days_zone)::date = ANY(%s)"""


def remake_corrected(cursor: Any, organisation_id: int, batch_ids: Sequence[int], rules: Sequence[Rule]) -> None:
    """Make the totals of these meters anew in the quarter hours that the batches' corrections fall into."""
    cursor.execute(CORRECTED_QUARTERS, [organisation_id, list(batch_ids), event_types(rules)])
    quarters = [at for (at,) in cursor.fetchall()]
    if quarters:
        remake(cursor, organisation_id, quarters, rules)


def remake(cursor: Any, organisation_id: int, quarters: Sequence[datetime], rules: Sequence[Rule]) -> int:
    """Make the totals of these meters anew in quarter hours, which are in order; returns how many there are now."""
    meters: list[Any] = [organisation_id, sorted({rule.meter_id for rule in rules})]
    cursor.execute(DELETE_QUARTERS, [*meters, *[organisation_id, quarters] * 2])
    source = counting_in(organisation_id, quarters, quarters[-1] + QUARTER_HOUR, event_types(rules))
    made = insert_totals(cursor, expected(source, rules))
    note_written(cursor, [(organisation_id, quarters[0], quarters[-1] + QUARTER_HOUR)])
    cursor.execute(DAYS_OF_QUARTERS, [quarters, organisation_id])
    days = [day for (day,) in cursor.fetchall()]
    cursor.execute(DELETE_DAYS, [*meters, *[organisation_id, days] * 2])
    insert_days(cursor, Sql(THESE_DAYS, (organisation_id, *meters, days[0], days[-1], days)))
    return made
