"""Making totals again: a range from its events after a correction, days from quarter hours after a change of zone.

A rebuild is alone with the organisation's totals: it waits for running folds, and batches that arrive meanwhile are
folded after it. Readers see the old totals until it commits.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection, transaction
from django.db.models import F

from accounts.errors import DomainError
from accounts.models import Organisation
from metering import quarter_hours
from metering.aggregation.changes import EVER, note_written
from metering.aggregation.comparing import PLANNER, expected_totals
from metering.aggregation.locks import rebuild_alone
from metering.aggregation.members import Sql
from metering.aggregation.writing import insert_days, insert_totals
from metering.models import DroppedMonth

DELETE_INTERVALS = """
WITH without_values AS (DELETE FROM usage_unique WHERE organisation_id = %s AND starts_at >= %s AND starts_at < %s)
DELETE FROM usage_interval WHERE organisation_id = %s AND starts_at >= %s AND starts_at < %s"""

DELETE_DAYS = """
WITH without_values AS (DELETE FROM usage_unique_day WHERE organisation_id = %s AND day >= %s AND day <= %s)
DELETE FROM usage_day WHERE organisation_id = %s AND day >= %s AND day <= %s"""

RANGE = "u.organisation_id = %s AND u.starts_at >= %s AND u.starts_at < %s"
THESE_DAYS = "(u.starts_at AT TIME ZONE o.days_zone)::date BETWEEN %s AND %s"


class UnalignedRangeError(DomainError):
    code = "unaligned_range"
    status = 422
    sentence = "Totals are kept per quarter hour: start and end must be instants at :00, :15, :30 or :45."


class EventsDroppedError(DomainError):
    code = "events_dropped"


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """How many rows the totals of the range consist of now."""

    intervals: int
    days: int


def rebuild_totals(organisation: Organisation, start: datetime, end: datetime) -> Rebuilt:
    """Replace the quarter hours of [start, end), and the days they touch, by what the folded events say.

    Raises EventsDroppedError for a range of which events are no longer kept: nothing could bring its totals back.
    """
    if not (quarter_hours.is_aligned(start) and quarter_hours.is_aligned(end)):
        raise UnalignedRangeError
    with transaction.atomic(), connection.cursor() as cursor:
        rebuild_alone(cursor, organisation.pk)
        _require_events(start)
        cursor.execute(PLANNER)
        organisation.refresh_from_db(fields=["days_zone"])
        zone = ZoneInfo(organisation.days_zone)
        cursor.execute(DELETE_INTERVALS, [organisation.pk, start, end] * 2)
        intervals = insert_totals(cursor, expected_totals(organisation, start, end))
        note_written(cursor, [(organisation.pk, start, end)])
        # Last, since a month may have begun to go meanwhile; its row is there before its events are gone.
        _require_events(start)
        first_day, last_day = (at.astimezone(zone).date() for at in (start, end - timedelta.resolution))
        return Rebuilt(intervals, _write_days(cursor, organisation, first_day, last_day))


def rebuild_days(organisation: Organisation) -> int:
    """Make all of an organisation's days again in its present time zone; returns how many rows they are."""
    with transaction.atomic(), connection.cursor() as cursor:
        rebuild_alone(cursor, organisation.pk)
        organisation.refresh_from_db(fields=["time_zone"])
        organisation.days_zone = organisation.time_zone
        organisation.save(update_fields=["days_zone"])
        note_written(cursor, [(organisation.pk, *EVER)])
        return _write_days(cursor, organisation, date.min, date.max)


def organisations_with_moved_days() -> list[Organisation]:
    """Organisations whose time zone changed after their days were made; until `rebuild_days`, nobody reads those."""
    return list(Organisation.objects.exclude(time_zone=F("days_zone")).order_by("pk"))


def _require_events(start: datetime) -> None:
    kept_from = DroppedMonth.objects.events_kept_from()
    if kept_from is not None and start < kept_from:
        raise EventsDroppedError(
            f"Events of before {kept_from:%Y-%m-%dT%H:%MZ} are no longer kept: begin there or later."
        )


def _write_days(cursor: Any, organisation: Organisation, first: date, last: date) -> int:
    """Make the days `first` to `last` again, both included, whole, from quarter hours."""
    cursor.execute(DELETE_DAYS, [organisation.pk, first, last] * 2)
    # No zone is further from UTC than 14 hours.
    margin = timedelta(days=1)
    start = datetime.combine(max(first, date.min + margin) - margin, datetime.min.time(), UTC)
    end = datetime.combine(min(last, date.max - 2 * margin) + 2 * margin, datetime.min.time(), UTC)
    return insert_days(cursor, Sql(f"{RANGE} AND {THESE_DAYS}", (organisation.pk, start, end, first, last)))
