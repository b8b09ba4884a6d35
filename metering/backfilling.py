"""Letting a meter count events of before it was defined, when an operator asks for it.

The meter's beginning moves back at once, so that late events are counted as they come; then its totals are made from
the events that are in, an organisation and a day at a time, each in a transaction of its own and alone with the
organisation. Killed anywhere it goes on where it was, and doing a day again changes nothing. It never reaches behind
the beginning of any billing period that runs, nor behind the events that are kept: no closed period changes.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Max, Min, QuerySet
from django.http import HttpRequest

from accounts import audit
from accounts.audit import Actor
from accounts.errors import DomainError
from metering import catalogue, quarter_hours
from metering.aggregation.comparing import PLANNER
from metering.aggregation.locks import rebuild_alone
from metering.aggregation.remaking import remake
from metering.aggregation.rules import rules_between
from metering.models import BillingWindow, DroppedMonth, IngestBatch, Meter, MeterBackfill

STEP = timedelta(days=1)


class BackfillTooEarly(DomainError):
    code = "backfill_too_early"
    status = 422


class NothingToBackfill(DomainError):
    code = "nothing_to_backfill"
    sentence = "The meter counts events from then on already."


class BackfillRuns(DomainError):
    code = "backfill_runs"
    sentence = "A backfill of this meter is running: wait until it is done."


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a backfill is: whole organisations, and up to when the one that it is at."""

    organisations: int
    done: int
    totals: int
    is_finished: bool


def earliest_backfill(now: datetime) -> datetime | None:
    """The instant behind which nothing may be counted afterwards; None: there is none.

    The latest beginning of a billing period that runs, whoever's it is: what was before is closed, or about to be. And
    events must be kept.
    """
    running = BillingWindow.objects.filter(starts_at__lte=now).values("organisation_id")
    begun = running.annotate(at=Max("starts_at")).order_by().aggregate(latest=Max("at"))["latest"]
    bounds = [at for at in (begun, DroppedMonth.objects.events_kept_from()) if at is not None]
    return max(bounds, default=None)


def check_backfill(meter: Meter, start: datetime, now: datetime) -> None:
    """Raise BackfillTooEarly, NothingToBackfill or BackfillRuns where a backfill cannot start."""
    earliest = earliest_backfill(now)
    if not quarter_hours.is_aligned(start):
        raise BackfillTooEarly("A backfill begins on a quarter hour: at :00, :15, :30 or :45.")
    if earliest is not None and start < earliest:
        raise BackfillTooEarly(
            f"Begin at {quarter_hours.ceiling(earliest):%Y-%m-%dT%H:%MZ} or later: what was before is billed, or its "
            "events are no longer kept."
        )
    if start >= meter.effective_from:
        raise NothingToBackfill
    if MeterBackfill.objects.unfinished().filter(meter=meter).exists():
        raise BackfillRuns


@transaction.atomic
def start_backfill(
    meter: Meter, start: datetime, *, now: datetime, actor: Actor, request: HttpRequest | None = None
) -> MeterBackfill:
    """Let the meter begin at an earlier quarter hour, and leave a row that says what is to be made up for.

    Raises what `check_backfill` does.
    """
    meter = Meter.objects.select_for_update().get(pk=meter.pk)
    check_backfill(meter, start, now)
    backfill = MeterBackfill(meter=meter, start=start, end=meter.effective_from, created_by=str(actor))
    backfill.organisations = _batches(backfill).values("organisation_id").distinct().count()
    backfill.save()
    meter.effective_from = start
    meter.save(update_fields=["effective_from"])
    audit.record(
        "meter.backfill_started",
        organisation=None,
        actor=actor,
        subject_id=meter.key,
        subject_label=meter.name,
        details={"start": start.isoformat(), "end": backfill.end.isoformat()},
        request=request,
    )
    transaction.on_commit(catalogue.forget)
    return backfill


def run_backfill(backfill: MeterBackfill, *, now: datetime, steps: int) -> Progress:
    """Do at most so many days of a backfill. Somebody else who does it at the same time is left to it."""
    for _ in range(steps):
        if not _step(backfill.pk, now):
            break
    row = MeterBackfill.objects.get(pk=backfill.pk)
    return Progress(row.organisations, row.organisations_done, row.totals, row.finished_at is not None)


@transaction.atomic
def _step(pk: int, now: datetime) -> bool:
    """The next day of the next organisation; False: there is none, or another process is at it."""
    row = MeterBackfill.objects.select_for_update(skip_locked=True).select_related("meter").filter(pk=pk).first()
    if row is None or row.finished_at is not None:
        return False
    if row.organisation_id is None or row.done_until is None:
        _turn_to_next(row)
    if row.organisation_id is None or row.done_until is None:
        row.finished_at = row.stepped_at = now
        row.save()
        return False
    until = min(row.done_until + STEP, row.end)
    row.totals += _make(row.meter, row.organisation_id, row.done_until, until)
    row.done_until, row.stepped_at = until, now
    if until >= row.end:
        row.done_until = None
        row.organisations_done += 1
    row.save()
    return True


def _turn_to_next(row: MeterBackfill) -> None:
    """The organisation after the one that is done, at the first of its events that is looked at."""
    batches = _batches(row).filter(organisation_id__gt=row.organisation_id or 0)
    found = batches.values("organisation_id").annotate(first=Min("first_time")).order_by("organisation_id").first()
    row.organisation_id = found["organisation_id"] if found else None
    row.done_until = max(row.start, quarter_hours.floor(found["first"])) if found else None


def _make(meter: Meter, organisation_id: int, start: datetime, end: datetime) -> int:
    """One meter's totals of a range anew; returns how many quarter hours have one."""
    count = (end - start) // quarter_hours.QUARTER_HOUR
    quarters = [start + place * quarter_hours.QUARTER_HOUR for place in range(count)]
    with connection.cursor() as cursor:
        rebuild_alone(cursor, organisation_id)
        cursor.execute(PLANNER)
        rules = [rule for rule in rules_between(start, end - timedelta.resolution) if rule.meter_id == meter.pk]
        return remake(cursor, organisation_id, quarters, rules) if rules else 0


def _batches(row: MeterBackfill) -> QuerySet[IngestBatch]:
    return IngestBatch.objects.filter(first_time__lt=row.end, last_time__gte=row.start)
