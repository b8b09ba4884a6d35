"""Dropping events by policy: whole months of receipt that nothing needs any more, the oldest first.

Totals, bills, batches and seals stay. A month goes only when no resend, correction or adjustment can need it, all of it
is in the totals and every day of it is sealed; the first month that may not go ends the run, so that what is kept has
no gaps. Three steps, each committed and each repeatable: the row that says from when on events are kept, so that no
check ever takes missing events for an error; the partition detached without holding up anybody; the table dropped and
the act put on record.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from accounts.audit import Actor, record
from accounts.errors import DomainError
from metering.archiving import Archive, archive_month
from metering.models import DroppedMonth, IngestBatch
from metering.partitions import add_months, detach_partition, drop_detached, month_of, months_kept, partition_name

# Beyond the late window: adjustments wait for a closing, closings for their grace, and people need time to look.
MARGIN = timedelta(days=31)
# Held by the session that drops.
_LOCK = 5_071_203


class AlreadyDropping(DomainError):
    code = "already_dropping"
    sentence = "Another process is dropping events at this moment."


@dataclass(frozen=True, slots=True)
class Planned:
    """A month that is older than asked for. `refusal`: why it may not go yet; empty if it may."""

    month: date
    events: int
    refusal: str


@dataclass(frozen=True, slots=True)
class Dropping:
    """What one run did. `refused`: the month it ended at; None: there was none left."""

    dropped: tuple[DroppedMonth, ...]
    refused: Planned | None


def drop_expired_months(*, now: datetime) -> Dropping:
    """Drop what the policy no longer keeps: all but EVENT_RETENTION_MONTHS whole months and the running one.

    A policy of fewer months than may still be needed waits until they are not.
    """
    if not settings.EVENT_RETENTION_MONTHS:
        return Dropping((), None)
    before = min(add_months(month_of(now), -settings.EVENT_RETENTION_MONTHS), _first_needed(now))
    archive = Path(settings.EVENT_ARCHIVE_DIR) if settings.EVENT_ARCHIVE_DIR else None
    format = settings.EVENT_ARCHIVE_FORMAT
    return drop_months(before, now=now, archive=archive, format=format, actor="retention policy")


def plan_dropping(before: date, *, now: datetime) -> list[Planned]:
    """The months before another, oldest first, up to and including the first that may not go."""
    plan: list[Planned] = []
    for month in months_kept():
        if month >= before or (plan and plan[-1].refusal):
            break
        plan.append(Planned(month, _events_of_batches(month), _refusal(month, now)))
    return plan


def drop_months(before: date, *, now: datetime, archive: Path | None, actor: Actor, format: str = "ndjson") -> Dropping:
    """Finish what was interrupted, then drop the months before another; each into a file first if `archive` is given.

    `format` is one of `archiving.FORMATS`.

    Raises AlreadyDropping, and ArchiveError before anything of that month is changed. Must not run in a transaction.
    """
    dropped = []
    with _alone():
        for unfinished in DroppedMonth.objects.filter(dropped_at=None).order_by("month"):
            dropped.append(_finish(unfinished, now=now, actor=actor))
        for planned in plan_dropping(before, now=now):
            if planned.refusal:
                return Dropping(tuple(dropped), planned)
            written = archive_month(planned.month, archive, format) if archive else None
            row, refusal = _announce(planned, written, now)
            if row is None:
                return Dropping(tuple(dropped), Planned(planned.month, planned.events, refusal))
            dropped.append(_finish(row, now=now, actor=actor))
    return Dropping(tuple(dropped), None)


# --- May it go? -------------------------------------------------------------------------------------------------------

_UNSEALED = """
SELECT o.public_id, days.day FROM (
    SELECT DISTINCT organisation_id, (received_at AT TIME ZONE 'UTC')::date AS day
    FROM ingest_batch WHERE receipt_month = %s
) AS days JOIN accounts_organisation o ON o.id = days.organisation_id
WHERE NOT EXISTS (
    SELECT FROM metering_seal s WHERE s.organisation_id = days.organisation_id AND s.day = days.day
) ORDER BY days.day, o.id LIMIT 1"""


def _refusal(month: date, now: datetime) -> str:
    free_at = _free_at(month)
    if now < free_at:
        return f"Its events can be sent again or corrected until the late window has passed: wait until {free_at:%F}."
    if pending := IngestBatch.objects.pending().filter(receipt_month=month).count():
        return f"{pending} of its batches are not in the totals yet: see `aggregate`."
    with connection.cursor() as cursor:
        cursor.execute(_UNSEALED, [month])
        unsealed = cursor.fetchone()
    if unsealed:
        return f"What {unsealed[0]} received on {unsealed[1]} is not sealed yet: see `verify`."
    return ""


def _free_at(month: date) -> datetime:
    """When nothing can need a month of receipt any more."""
    end = datetime.combine(add_months(month, 1), time(), UTC)
    tolerance = timedelta(seconds=settings.FUTURE_TOLERANCE_SECONDS)
    return end + timedelta(days=settings.LATE_WINDOW_DAYS) + tolerance + MARGIN


def _first_needed(now: datetime) -> date:
    """The oldest month that something can still need, whatever the policy says."""
    month = month_of(now)
    while now < _free_at(add_months(month, -1)):
        month = add_months(month, -1)
    return month


def _events_of_batches(month: date) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(sum(event_count), 0) FROM ingest_batch WHERE receipt_month = %s", [month])
        return int(cursor.fetchone()[0])


# --- Dropping ---------------------------------------------------------------------------------------------------------

_COUNTED = "SELECT count(*), max(time) FROM {partition}"


def _announce(planned: Planned, archive: Archive | None, now: datetime) -> tuple[DroppedMonth | None, str]:
    """The row that takes the month's events out of account, or None and why the month may not go after all."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNTED.format(partition=partition_name(planned.month)))
        events, last_time = cursor.fetchone()
    if events != planned.events or (archive and archive.events != events):
        return None, f"Its batches hold {planned.events} events and {events} are there: see `verify`."
    with transaction.atomic(durable=True):
        row = DroppedMonth.objects.create(
            month=planned.month,
            event_count=events,
            last_time=last_time,
            archive=str(archive.path) if archive else "",
            archive_digest=archive.digest if archive else "",
            started_at=now,
        )
    return row, ""


def _finish(row: DroppedMonth, *, now: datetime, actor: Actor) -> DroppedMonth:
    detach_partition(row.month)
    with transaction.atomic(durable=True):
        drop_detached(row.month)
        row.dropped_at = now
        row.save(update_fields=["dropped_at"])
        record("events.dropped", organisation=None, actor=actor, subject_label=str(row), details=_facts(row))
    return row


def _facts(row: DroppedMonth) -> dict[str, Any]:
    return {"events": row.event_count, "archive": row.archive, "archive_sha256": row.archive_digest}


@contextmanager
def _alone() -> Iterator[None]:
    """One process at a time, across several transactions."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK])
        if not cursor.fetchone()[0]:
            raise AlreadyDropping
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])
