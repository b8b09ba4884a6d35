"""What a query of OpenMeter's clients asks, read strictly: no figure may answer another question than the one put."""

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

from django.http import QueryDict
from rest_framework.request import Request

from accounts.api_keys import resolve_subjects
from accounts.models import Organisation, Project
from accounts.problems import Problem
from metering import quarter_hours
from metering.buckets import Granularity
from metering.models import Meter

PARAMETERS = frozenset(
    {"from", "to", "windowSize", "windowTimeZone", "subject", "groupBy", "filterGroupBy", "clientId"}
)
WINDOW_SIZES: dict[str, Granularity] = {"HOUR": "hour", "DAY": "day", "MONTH": "month"}
LONGEST_RANGE = timedelta(days=5 * 366)
# Windows that are not the organisation's own are put together from quarter hours.
LONGEST_IN_ANOTHER_ZONE = timedelta(days=93)
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)
# OpenMeter's clients ask for the subject, which is the API key here.
_OUR_NAMES = {"subject": "api_key"}


@dataclass(frozen=True, slots=True)
class MeterQuery:
    organisation: Organisation
    meter_key: str
    start: datetime
    end: datetime
    # None: the whole range is one window.
    window_size: str | None
    granularity: Granularity
    zone: ZoneInfo
    # Names as `metering.reports` has them; api_key stands for the subject.
    group_by: tuple[str, ...]
    models: tuple[str, ...]
    project_ids: tuple[int, ...]
    api_key_ids: tuple[int, ...]
    labels: Mapping[str, str]


def read_query(request: Request, meter_key: str, now: datetime) -> MeterQuery:
    """The request's parameters, or a Problem that says which one is wrong and why."""
    values = request.query_params
    _refuse_unknown(values)
    meter = Meter.objects.filter(key=meter_key).first()
    if meter is None:
        raise Problem(404, "unknown_meter", f"There is no meter called {meter_key!r}.")
    organisation, api_key_ids = _subjects(request, values.getlist("subject"))
    window_size, granularity = _window_size(values)
    zone = _zone(values)
    start, end = _range(values, now)
    if granularity != "total" and zone.key != organisation.zone.key:
        _refuse_another_zone(meter, organisation, end - start)
    filters = _filters(values)
    return MeterQuery(
        organisation=organisation,
        meter_key=meter_key,
        start=start,
        end=end,
        window_size=window_size,
        granularity=granularity,
        zone=zone,
        group_by=_group_by(values, meter),
        models=(filters.pop("model"),) if "model" in filters else (),
        project_ids=_project_ids(filters, organisation),
        api_key_ids=api_key_ids,
        labels=_labels(filters, meter),
    )


def _refuse_another_zone(meter: Meter, organisation: Organisation, length: timedelta) -> None:
    """Windows of another zone are put together from quarter hours: of sums only, and not of too many."""
    advice = f"windows are in the organisation's zone only: add windowTimeZone={organisation.zone.key}."
    if not meter.is_additive:
        raise Problem(400, "not_additive", f"Of {meter.name}, {advice}")
    if length > LONGEST_IN_ANOTHER_ZONE:
        raise Problem(400, "invalid_range", f"Past 93 days, {advice}")


def _refuse_unknown(values: QueryDict) -> None:
    for name in values:
        if name not in PARAMETERS and not name.startswith("filterGroupBy["):
            raise Problem(400, "unknown_parameter", f"The parameter {name!r} is not known here.", parameter=name)


def _subjects(request: Request, named: list[str]) -> tuple[Organisation, tuple[int, ...]]:
    """Whose usage: the token's organisation, or the one that all subjects belong to, and which of its keys."""
    own: Organisation | None = request.user.organisation  # type: ignore[union-attr]
    if own is None and not named:
        detail = "A service token must say whose usage: add subject=org_… or the id of an API key."
        raise Problem(400, "subject_required", detail)
    found = resolve_subjects(named)
    owners = {subject.organisation_id for subject in found.values()} | ({own.pk} if own else set())
    if len(found) < len(set(named)) or len(owners) != 1:
        raise Problem(404, "unknown_subject", "There is no such subject, or not all belong to one organisation.")
    organisation = own or Organisation.objects.get(pk=owners.pop())
    if any(subject.api_key_id is None for subject in found.values()):
        return organisation, ()
    return organisation, tuple(sorted({subject.api_key_id for subject in found.values() if subject.api_key_id}))


def _window_size(values: QueryDict) -> tuple[str | None, Granularity]:
    wanted = values.get("windowSize")
    if not wanted:
        return None, "total"
    if wanted not in WINDOW_SIZES:
        detail = f"`windowSize` can be HOUR, DAY or MONTH, not {wanted!r}: readings are kept per quarter hour."
        raise Problem(400, "invalid_window_size", detail, parameter="windowSize")
    return wanted, WINDOW_SIZES[wanted]


def _zone(values: QueryDict) -> ZoneInfo:
    """UTC unless asked otherwise, as with OpenMeter."""
    name = values.get("windowTimeZone") or "UTC"
    if name not in available_timezones():
        detail = f"{name!r} is no time zone such as Europe/Berlin."
        raise Problem(400, "invalid_time_zone", detail, parameter="windowTimeZone")
    return ZoneInfo(name)


def _range(values: QueryDict, now: datetime) -> tuple[datetime, datetime]:
    """Whole quarter hours that cover what was asked; without bounds the last 31 days."""
    end = _instant(values, "to") or now
    start = _instant(values, "from") or end - timedelta(days=31)
    if not start < end or end - start > LONGEST_RANGE:
        raise Problem(400, "invalid_range", "`from` must be before `to`, by five years at most.")
    return quarter_hours.floor(start), quarter_hours.ceiling(end)


def _instant(values: QueryDict, name: str) -> datetime | None:
    text = values.get(name)
    if not text:
        return None
    try:
        # A plus sign that was not encoded arrives as a space.
        at = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        at = None
    if at is None or at.tzinfo is None or not EARLIEST <= at <= LATEST:
        detail = f"`{name}` must be an instant such as 2026-11-01T00:00:00Z."
        raise Problem(400, "invalid_time", detail, parameter=name)
    return at.astimezone(UTC)


def _group_by(values: QueryDict, meter: Meter) -> tuple[str, ...]:
    known = {"subject", "project", "model", *meter.dimensions}
    for name in values.getlist("groupBy"):
        if name not in known:
            detail = f"`groupBy` can hold {', '.join(sorted(known))}, not {name!r}."
            raise Problem(400, "invalid_group_by", detail, parameter="groupBy")
    return tuple(dict.fromkeys(_OUR_NAMES.get(name, name) for name in values.getlist("groupBy")))


def _filters(values: QueryDict) -> dict[str, str]:
    """`filterGroupBy[model]=x`, or all at once as an object in JSON, or in Python's spelling (OpenMeter's client)."""
    found = {
        name.removeprefix("filterGroupBy[").removesuffix("]"): str(value)
        for name, value in values.items()
        if name.startswith("filterGroupBy[")
    }
    if text := values.get("filterGroupBy"):
        found |= _object(text)
    return found


def _object(text: str) -> dict[str, str]:
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, dict) and all(isinstance(part, str) for pair in found.items() for part in pair):
            return found
    detail = '`filterGroupBy` must be an object of texts, such as {"model": "m-1"}.'
    raise Problem(400, "invalid_filter", detail, parameter="filterGroupBy")


def _project_ids(filters: dict[str, str], organisation: Organisation) -> tuple[int, ...]:
    public_id = filters.pop("project", None)
    if public_id is None:
        return ()
    project = Project.objects.for_organisation(organisation).filter(public_id=public_id).first()
    if project is None:
        raise Problem(404, "unknown_project", "The organisation has no such project.")
    return (project.pk,)


def _labels(filters: dict[str, str], meter: Meter) -> dict[str, str]:
    for name in filters:
        if name not in meter.dimensions:
            raise Problem(400, "invalid_filter", f"{meter.name} are not kept apart by {name!r}.", parameter=name)
    return filters
