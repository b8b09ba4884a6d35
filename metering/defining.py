"""Meters as operators define, change and retire them. Every act is in the audit log.

What totals are made of never changes: a meter's key, event type, value, aggregation, and when it began. Words, unit and
place may be changed at any time. Dimensions and conditions may be changed from a quarter hour on that no event can
have reached yet, as a revision: no total that exists, and so no closed period, ever changes. An archived meter keeps
its totals and reads nothing that happens later.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest

from accounts import audit
from accounts.audit import Actor
from accounts.errors import DomainError
from metering import catalogue, quarter_hours
from metering.meter_rules import checked_dimensions, checked_filters, checked_path, checked_tiers
from metering.models import Aggregation, Meter, MeterRevision

# What may be changed at any time: no total depends on it.
WORDS = ("name", "description", "unit", "display_scale", "position")


class InvalidMeter(DomainError):
    code = "invalid_meter"
    status = 422


class MeterExists(DomainError):
    code = "meter_exists"
    sentence = "There is a meter with this key already, and it is defined otherwise. Keys are never used again."


class MeterArchived(DomainError):
    code = "meter_archived"
    sentence = "The meter is archived: it reads nothing, and what it has read stays as it is."


class BeginsTooEarly(DomainError):
    code = "begins_too_early"
    status = 422


class RevisionTooEarly(DomainError):
    code = "revision_too_early"
    status = 422


def checked(meter: Meter) -> Meter:
    """The meter with its definition in one form; raises InvalidMeter with a sentence."""
    try:
        if meter.aggregation == Aggregation.COUNT and meter.value_field:
            raise ValueError("A count counts events: leave the value empty, and say with conditions which events.")
        if meter.aggregation != Aggregation.COUNT:
            meter.value_field = checked_path(meter.value_field)
        if meter.display_scale <= 0:
            raise ValueError("The display scale is a number of units above zero.")
        _check_definition(meter)
        meter.full_clean(exclude=["part_of"], validate_unique=False, validate_constraints=False)
    except ValidationError as error:
        raise InvalidMeter(" ".join(error.messages)) from error
    except ValueError as error:
        raise InvalidMeter(str(error)) from error
    if not quarter_hours.is_aligned(meter.effective_from):
        raise InvalidMeter("A meter begins on a quarter hour: at :00, :15, :30 or :45.")
    return meter


@transaction.atomic
def define_meter(
    meter: Meter, *, now: datetime, actor: Actor, request: HttpRequest | None = None
) -> tuple[Meter, bool]:
    """Save a new meter; returns it, and whether it is new: defining the same again changes nothing.

    Raises InvalidMeter, BeginsTooEarly for an instant that events may have reached already, and MeterExists if the key
    stands for another definition.
    """
    checked(meter)
    if Meter.objects.filter(key=meter.key).exists():
        return _the_same(meter), False
    if meter.effective_from < untouched_from(now):
        raise BeginsTooEarly(
            f"A meter begins at {untouched_from(now):%Y-%m-%dT%H:%MZ} or later, since events of before may have been "
            "counted without it. Backfill it afterwards to count those as well."
        )
    meter.save()
    _record("meter.defined", meter, actor, request, definition_of(meter))
    transaction.on_commit(catalogue.forget)
    return meter, True


@transaction.atomic
def reword_meter(
    meter: Meter, changes: Mapping[str, Any], *, actor: Actor, request: HttpRequest | None = None
) -> Meter:
    """Change some of a meter's WORDS."""
    before = {name: getattr(meter, name) for name in changes}
    for name, value in changes.items():
        setattr(meter, name, value)
    checked(meter)
    meter.save(update_fields=list(changes))
    details = {name: [str(before[name]), str(value)] for name, value in changes.items() if before[name] != value}
    if details:
        _record("meter.reworded", meter, actor, request, details)
    return meter


@transaction.atomic
def revise_meter(
    meter: Meter,
    *,
    dimensions: Any,
    filters: Any,
    tiers: Any,
    effective_from: datetime,
    now: datetime,
    actor: Actor,
    request: HttpRequest | None = None,
) -> MeterRevision:
    """Let a meter keep apart and let through something else from a quarter hour on.

    Raises InvalidMeter, MeterArchived, and RevisionTooEarly for an instant that events may have reached already.
    """
    Meter.objects.select_for_update().get(pk=meter.pk)
    if meter.archived_at is not None:
        raise MeterArchived
    earliest = earliest_revision(meter, now)
    if effective_from < earliest or not quarter_hours.is_aligned(effective_from):
        raise RevisionTooEarly(
            f"A change takes effect on a quarter hour from {earliest:%Y-%m-%dT%H:%MZ} on: events of before may have "
            "been counted."
        )
    revision = MeterRevision(
        meter=meter, effective_from=effective_from, dimensions=dimensions, filters=filters, tiers=tiers
    )
    try:
        _check_definition(revision)
    except ValueError as error:
        raise InvalidMeter(str(error)) from error
    revision.save()
    _record("meter.revised", meter, actor, request, _rule_of(revision))
    transaction.on_commit(catalogue.forget)
    return revision


@transaction.atomic
def archive_meter(meter: Meter, *, now: datetime, actor: Actor, request: HttpRequest | None = None) -> bool:
    """Let a meter read nothing from now on; returns whether it was in use."""
    if not Meter.objects.active().filter(pk=meter.pk).update(archived_at=now):
        return False
    _record("meter.archived", meter, actor, request, {})
    transaction.on_commit(catalogue.forget)
    return True


def earliest_revision(meter: Meter, now: datetime) -> datetime:
    """The first quarter hour that no event can have reached and that lies behind the meter's latest definition."""
    latest = max([meter.effective_from, *(one.effective_from for one in meter.revisions.all())])
    return max(untouched_from(now), quarter_hours.ceiling(latest + timedelta.resolution))


def untouched_from(now: datetime) -> datetime:
    """The first quarter hour that no event can have reached. A fold that has begun has read the meters as they were; it
    ends within minutes."""
    ahead = timedelta(seconds=settings.FUTURE_TOLERANCE_SECONDS)
    return quarter_hours.ceiling(now + ahead + timedelta(minutes=5))


def definition_of(meter: Meter) -> dict[str, Any]:
    """What totals are made of."""
    first = {"event_type": meter.event_type, "value_field": meter.value_field, "aggregation": meter.aggregation}
    return first | _rule_of(meter)


def _check_definition(one: Meter | MeterRevision) -> None:
    one.filters = checked_filters(one.filters)
    one.tiers = checked_tiers(one.tiers)
    one.dimensions = checked_dimensions(one.dimensions, one.tiers)


def _the_same(meter: Meter) -> Meter:
    found = Meter.objects.get(key=meter.key)
    names = ("event_type", "value_field", "aggregation", "dimensions", "filters", "tiers")
    if any(getattr(found, name) != getattr(meter, name) for name in names):
        raise MeterExists
    return found


def _rule_of(one: Meter | MeterRevision) -> dict[str, Any]:
    return {
        "dimensions": one.dimensions,
        "filters": one.filters,
        "tiers": one.tiers,
        "effective_from": one.effective_from.isoformat(),
    }


def _record(action: str, meter: Meter, actor: Actor, request: HttpRequest | None, details: dict[str, Any]) -> None:
    audit.record(
        action,
        organisation=None,
        actor=actor,
        subject_id=meter.key,
        subject_label=meter.name,
        details=details,
        request=request,
    )
