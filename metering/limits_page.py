"""What the page of limits shows: each limit with what is used, held and left, the calls in flight, the refusals.

Reads counters, holds and refusals; as many queries for one limit as for many.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db.models import Q

from accounts.models import ApiKey, Organisation, Project
from metering.admission.counting import CountingRules
from metering.models import Hold, HoldState, Measure, Quota, QuotaIncrease, QuotaScope, QuotaWindow, SetBy

MOST_SUBJECTS = 5
MOST_TIGHT = 3
FULL = Decimal(1)
WINDOW_WORDS = {
    "minute": "per minute",
    "hour": "per hour",
    "day": "per day",
    "week": "per week",
    "month": "per month",
    "billing_period": "per billing period",
    "none": "in total",
}


@dataclass(frozen=True, slots=True)
class Counted:
    """One counter as it stands."""

    subject: str
    used: Decimal
    held: Decimal

    @property
    def taken(self) -> Decimal:
        return self.used + self.held


@dataclass(frozen=True, slots=True)
class LimitRow:
    quota: Quota
    # "Output tokens", "Requests", "Calls at the same time", "Spend in USD".
    what: str
    # "per day", and for which project, key, end user or models.
    of_what: str
    # With what was added to it for now.
    amount: Decimal
    # Until when more is allowed; None: nothing was added.
    raised_until: datetime | None
    resets_at: datetime | None
    # One, or the fullest few where each end user has their own.
    counters: tuple[Counted, ...]

    @property
    def counter(self) -> Counted:
        return self.counters[0] if self.counters else Counted("", Decimal(0), Decimal(0))

    @property
    def left(self) -> Decimal:
        return max(Decimal(0), self.amount - self.counter.used - self.counter.held)

    @property
    def overdraft(self) -> Decimal:
        return max(Decimal(0), self.counter.used - self.amount)

    @property
    def taken_share(self) -> Decimal:
        """What is used and held, of what is allowed: 1 and above is full."""
        return self.counter.taken / self.amount if self.amount else FULL

    @property
    def is_own(self) -> bool:
        return self.quota.set_by == SetBy.CUSTOMER


def limit_rows(organisation: Organisation, now: datetime) -> list[LimitRow]:
    quotas = list(Quota.objects.for_organisation(organisation).active().select_related("meter"))
    if not quotas:
        return []
    rules = CountingRules.without_prices(organisation, quotas)
    spans = {quota.pk: rules.window_of(quota, now) for quota in quotas}
    wanted = Q()
    for pk, span in spans.items():
        wanted |= Q(quota_id=pk, starts_at=span.start)
    counted: dict[int, list[Counted]] = defaultdict(list)
    for row in QuotaWindow.objects.filter(wanted, organisation=organisation):
        counted[row.quota_id].append(Counted(row.subject, row.used, row.held))
    raised: dict[int, list[QuotaIncrease]] = defaultdict(list)
    for increase in QuotaIncrease.objects.filter(quota__in=quotas, starts_at__lte=now, ends_at__gt=now):
        raised[increase.quota_id].append(increase)
    names = _names(organisation, quotas)
    return [
        LimitRow(
            quota=quota,
            what=what_is_counted(quota),
            of_what=_of_what(quota, names),
            amount=quota.amount + sum((one.amount for one in raised[quota.pk]), Decimal(0)),
            raised_until=min((one.ends_at for one in raised[quota.pk]), default=None),
            resets_at=spans[quota.pk].end,
            counters=_fullest(counted[quota.pk]),
        )
        for quota in quotas
    ]


def tightest_limits(organisation: Organisation, now: datetime) -> list[LimitRow]:
    """The few that calls come up against first, as things stand."""
    rows = sorted(limit_rows(organisation, now), key=lambda row: (-row.taken_share, row.quota.pk))
    return rows[:MOST_TIGHT]


def calls_in_flight(organisation: Organisation, now: datetime) -> list[Hold]:
    """Those that were admitted and have not ended, newest first."""
    rows = Hold.objects.filter(organisation=organisation, state=HoldState.HELD, expires_at__gt=now)
    return list(rows.order_by("-created_at")[:100])


def what_is_counted(quota: Quota) -> str:
    match quota.measure:
        case Measure.REQUESTS:
            return "Requests"
        case Measure.CONCURRENT:
            return "Calls at the same time"
        case Measure.SPEND:
            return "Prepaid credit" if quota.set_by == SetBy.CREDIT else f"Spend in {quota.currency}"
    return quota.meter.name if quota.meter else ""


def limit_in_words(quota: Quota, subject: str = "") -> str:
    """What a limit counts, over what time and of whom; `subject` is the end user of a counter."""
    of_what = _of_what(quota, _names(quota.organisation, [quota]), subject)
    return f"{what_is_counted(quota)} {of_what}".strip()


def _fullest(counters: Iterable[Counted]) -> tuple[Counted, ...]:
    return tuple(sorted(counters, key=lambda one: (-(one.used + one.held), one.subject))[:MOST_SUBJECTS])


def _names(organisation: Organisation, quotas: Sequence[Quota]) -> dict[tuple[str, int | None], str]:
    key_ids = [quota.api_key_id for quota in quotas if quota.api_key_id is not None]
    project_ids = [quota.project_id for quota in quotas if quota.project_id is not None]
    keys = ApiKey.objects.for_organisation(organisation).filter(pk__in=key_ids)
    projects = Project.objects.for_organisation(organisation).filter(pk__in=project_ids)
    names: dict[tuple[str, int | None], str] = {("api_key", key.pk): f"the key {key.name}" for key in keys}
    return names | {("project", project.pk): f"the project {project.name}" for project in projects}


def _of_what(quota: Quota, names: dict[tuple[str, int | None], str], subject: str = "") -> str:
    words = [WINDOW_WORDS[quota.window]] if quota.measure != Measure.CONCURRENT else []
    match quota.scope:
        case QuotaScope.PROJECT:
            words.append("for " + names.get(("project", quota.project_id), "a project"))
        case QuotaScope.API_KEY:
            words.append("for " + names.get(("api_key", quota.api_key_id), "a key"))
        case QuotaScope.END_USER:
            end_user = quota.end_user or subject
            words.append(f"for the end user {end_user}" if end_user else "for each end user")
    if quota.model_patterns:
        words.append(f"on {', '.join(quota.model_patterns)}")
    return ", ".join(words)
