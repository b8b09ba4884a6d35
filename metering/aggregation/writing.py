"""Writing totals that are made anew: series, quarter hours, different values, days. What was there is gone already."""

from typing import Any

from metering.aggregation.expecting import DAY_VALUES, DAYS
from metering.aggregation.members import Sql

INSERT_TOTALS = """
WITH {expected},
new_series AS (
    INSERT INTO series (organisation_id, id, meter_id, project_id, api_key_id, model, labels)
    SELECT DISTINCT ON (organisation_id, series_id)
           organisation_id, series_id, meter_id, project_id, api_key_id, model, labels
    FROM expected ORDER BY organisation_id, series_id
    ON CONFLICT DO NOTHING
),
new_values AS (
    INSERT INTO usage_unique (organisation_id, series_id, starts_at, digest)
    SELECT organisation_id, series_id, starts_at, digest FROM expected_value
)
INSERT INTO usage_interval (organisation_id, series_id, starts_at, value, count, latest_at, latest_key)
SELECT organisation_id, series_id, starts_at, value, count, latest_at, latest_key FROM expected"""

INSERT_DAYS = """
WITH new_values AS (INSERT INTO usage_unique_day (organisation_id, series_id, day, digest) {values})
INSERT INTO usage_day (organisation_id, series_id, day, value, count, latest_at, latest_key) {days}"""


def insert_totals(cursor: Any, expected: Sql) -> int:
    """Write what `expecting.expected` yields; returns the number of quarter hours."""
    cursor.execute(INSERT_TOTALS.format(expected=expected.text), expected.params)
    return int(cursor.rowcount)


def insert_days(cursor: Any, which: Sql) -> int:
    """Write the days of the quarter hours `u`, of organisations `o`, that a condition names; returns their number."""
    days = DAYS.format(which=which.text)
    cursor.execute(INSERT_DAYS.format(values=DAY_VALUES.format(which=which.text), days=days), which.params * 2)
    return int(cursor.rowcount)
