"""What a request for usage asks, read strictly: no figure may ever answer another question than the one put."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from django.http import QueryDict

from accounts.models import ApiKey, Organisation, Project
from accounts.problems import Problem
from metering import quarter_hours
from metering.buckets import GRANULARITIES, Granularity, bucket_of, bucket_starts, midnight
from metering.reports import UsageFilter, label_names

DEFAULT_LIMIT = 100
MOST_BUCKETS = 1000
LONGEST_RANGE = timedelta(days=5 * 366)
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)
LABEL = "label."
PARAMETERS = frozenset(
    {"organisation", "from", "to", "granularity", "group_by", "meter", "model", "project", "api_key", "limit", "cursor"}
)
# No bucket is longer, whatever clocks do.
LONGEST_BUCKET: dict[Granularity, timedelta] = {
    "interval": timedelta(minutes=15),
    "hour": timedelta(hours=2),
    "day": timedelta(hours=26),
    "month": timedelta(days=32),
}


@dataclass(frozen=True, slots=True)
class UsageParameters:
    start: datetime
    end: datetime
    granularity: Granularity
    group_by: tuple[str, ...]
    filters: UsageFilter
    limit: int
    # Where this page begins: `start`, or a later bucket.
    page_start: datetime

    def page_of_buckets(self, zone: ZoneInfo) -> list[datetime]:
        """The starts of this page's buckets and, if there is another page, of its first."""
        end = self.end
        if self.granularity != "total":
            end = min(end, self.page_start + (self.limit + 2) * LONGEST_BUCKET[self.granularity])
        return bucket_starts(self.page_start, end, self.granularity, zone)[: self.limit + 1]


def read_parameters(values: QueryDict, organisation: Organisation, now: datetime) -> UsageParameters:
    """The request's parameters, or a Problem 400 that says which one is wrong and why."""
    _refuse_unknown(values)
    start, end = _range(values, organisation, now)
    granularity = _granularity(values)
    return UsageParameters(
        start=start,
        end=end,
        granularity=granularity,
        group_by=_group_by(values),
        filters=_filters(values, organisation),
        limit=_limit(values),
        page_start=_page_start(values, start, end, granularity, organisation.zone),
    )


def _refuse_unknown(values: QueryDict) -> None:
    unknown = sorted(name for name in values if name not in PARAMETERS and not name.startswith(LABEL))
    if unknown:
        raise Problem(400, "unknown_parameter", f"There is no parameter {unknown[0]!r}.", parameter=unknown[0])


def _range(values: QueryDict, organisation: Organisation, now: datetime) -> tuple[datetime, datetime]:
    """Whole quarter hours that cover what was asked; without bounds the running month so far."""
    zone = organisation.zone
    start = _instant(values, "from", zone) or midnight(now.astimezone(zone).date().replace(day=1), zone)
    end = _instant(values, "to", zone) or max(now, start + quarter_hours.QUARTER_HOUR)
    if not start < end:
        raise Problem(400, "invalid_range", "`from` must be before `to`.")
    if end - start > LONGEST_RANGE:
        raise Problem(400, "invalid_range", "The range must not be longer than five years.")
    return quarter_hours.floor(start), quarter_hours.ceiling(end)


def _instant(values: QueryDict, name: str, zone: ZoneInfo) -> datetime | None:
    """An instant in RFC 3339, or a day, which stands for its first instant in the organisation's zone."""
    text = values.get(name)
    if not text:
        return None
    try:
        # A plus sign that was not encoded arrives as a space.
        at = _day(text, zone) or datetime.fromisoformat(text.replace(" ", "+"))
    except (ValueError, OverflowError):
        at = None
    if at is None or at.tzinfo is None or not EARLIEST <= at <= LATEST:
        detail = f"`{name}` must be a day such as 2026-11-01 or an instant such as 2026-11-01T00:00:00Z."
        raise Problem(400, "invalid_time", detail, parameter=name)
    return at.astimezone(UTC)


def _day(text: str, zone: ZoneInfo) -> datetime | None:
    return midnight(date.fromisoformat(text), zone) if len(text) == len("2026-11-01") else None


def _granularity(values: QueryDict) -> Granularity:
    wanted = values.get("granularity") or "day"
    for granularity in GRANULARITIES:
        if granularity == wanted:
            return granularity
    raise Problem(400, "invalid_granularity", f"`granularity` must be one of {', '.join(GRANULARITIES)}.")


def _group_by(values: QueryDict) -> tuple[str, ...]:
    names = _listed(values, "group_by") or ["meter"]
    known = ["meter", "model", "project", "api_key"]
    if not set(names) <= set(known):
        known += label_names()
    for name in names:
        if name not in known:
            raise Problem(400, "invalid_group_by", f"`group_by` can hold {', '.join(known)}, not {name!r}.")
    return tuple(dict.fromkeys(names))


def _filters(values: QueryDict, organisation: Organisation) -> UsageFilter:
    projects = dict(Project.objects.for_organisation(organisation).values_list("public_id", "pk"))
    api_keys = ApiKey.objects.for_organisation(organisation).filter(public_id__in=_listed(values, "api_key"))
    return UsageFilter(
        meters=tuple(_listed(values, "meter")),
        models=tuple(values.getlist("model")),
        project_ids=_ids(_listed(values, "project"), projects, "project"),
        api_key_ids=_ids(_listed(values, "api_key"), dict(api_keys.values_list("public_id", "pk")), "api_key"),
        labels={name.removeprefix(LABEL): str(values[name]) for name in values if name.startswith(LABEL)},
    )


def _ids(public_ids: list[str], known: Mapping[str, int], name: str) -> tuple[int, ...]:
    for public_id in public_ids:
        if public_id not in known:
            raise Problem(400, f"unknown_{name}", f"The organisation has no {name} {public_id!r}.", parameter=name)
    return tuple(known[public_id] for public_id in public_ids)


def _listed(values: QueryDict, name: str) -> list[str]:
    """A parameter that may be repeated and may hold several, separated by commas."""
    return [part.strip() for text in values.getlist(name) for part in text.split(",") if part.strip()]


def _limit(values: QueryDict) -> int:
    text = values.get("limit") or str(DEFAULT_LIMIT)
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MOST_BUCKETS):
        raise Problem(400, "invalid_limit", f"`limit` must be a whole number of buckets from 1 to {MOST_BUCKETS}.")
    return int(text)


def _page_start(
    values: QueryDict, start: datetime, end: datetime, granularity: Granularity, zone: ZoneInfo
) -> datetime:
    """A cursor is the start of the page's first bucket in UTC."""
    text = values.get("cursor")
    if not text:
        return start
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if (
        at is None
        or at.tzinfo is None
        or granularity == "total"
        or not start < at < end
        or bucket_of(at, granularity, zone) != at.astimezone(UTC)
    ):
        raise Problem(400, "invalid_cursor", "That cursor does not belong to this request.")
    return at
