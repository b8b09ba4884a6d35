"""When a subscription's periods are, and which plan version rules in each. Everything follows from the anchor.

Reads phases and invoices; changes nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from django.db.models import F, Max, Prefetch
from django.db.models.functions import Coalesce

from accounts.models import Organisation
from accounts.remembering import remember, remembered
from billing.models import CouponRedemption, Invoice, PlanVersion, Subscription, SubscriptionPause, SubscriptionPhase
from billing.periods import Cadence, Period, next_period, period_at

RESOLUTION = timedelta(microseconds=1)
# What to prefetch of subscriptions whose bills are computed.
TERMS = (
    Prefetch("phases", SubscriptionPhase.objects.select_related("plan_version__plan")),
    Prefetch("pauses"),
    Prefetch("redemptions", CouponRedemption.objects.select_related("coupon")),
)


@dataclass(frozen=True, slots=True)
class PostedInvoice:
    """What closing the next period has to know of an invoice."""

    pk: int
    number: str
    subscription_id: int
    currency: str
    period: Period
    finalised_at: datetime
    total_exact: Decimal
    # The book by which its period is rated again: as it stood when it was closed, or when it was last corrected.
    prices_known_at: datetime
    # The subscription's newest invoice when its prices were last corrected: the one after it carries the difference.
    corrected_after: int | None
    # What periods were rated by when it was made: see `unchanged`.
    rated_by: Mapping[str, Any] = field(compare=False)


class Rest(StrEnum):
    """Why nothing is charged for a time; NONE where it is."""

    NONE = ""
    TRIAL = "trial"
    PAUSE = "pause"


@dataclass(frozen=True, slots=True)
class PlanStretch:
    """Part of a period in which one plan version held, or in which nothing is charged."""

    period: Period
    version: PlanVersion
    rest: Rest
    # Whether it begins with something that was decided while the period ran, perhaps.
    is_late: bool

    @property
    def is_charged(self) -> bool:
        return not self.rest


def whole_period(subscription: Subscription, instant: datetime) -> Period:
    """The period of the schedule that an instant falls into, wherever the subscription ends: what fees are for."""
    return period_at(
        subscription.anchor_at, instant=instant, zone=subscription.zone, cadence=Cadence(subscription.cadence)
    )


def period_containing(subscription: Subscription, instant: datetime) -> Period:
    """The period that is billed as one: of the schedule, or until the subscription ends in it."""
    period, ends_at = whole_period(subscription, instant), subscription.ends_at
    if ends_at is not None and period.start < ends_at < period.end:
        return Period(period.start, ends_at)
    return period


def period_after(subscription: Subscription, period: Period) -> Period:
    """The next one of the schedule."""
    whole = whole_period(subscription, period.start)
    following = next_period(
        subscription.anchor_at, period=whole, zone=subscription.zone, cadence=Cadence(subscription.cadence)
    )
    return period_containing(subscription, following.start)


def stretches(subscription: Subscription, period: Period) -> list[PlanStretch]:
    """The period cut where another plan takes over, where a trial ends and where a pause begins or ends, in order."""
    pauses = pauses_of(subscription)
    ends = [pause.ends_at for pause in pauses]
    cuts = [phase.starts_at for phase in phases_of(subscription)]
    cuts += [pause.starts_at for pause in pauses]
    cuts += [at for at in (subscription.trial_ends_at, *ends) if at is not None]
    return [_stretch(subscription, part) for part in period.split_at(cuts)]


def _stretch(subscription: Subscription, part: Period) -> PlanStretch:
    phase = phase_at(subscription, part.start)
    ends = {pause.ends_at for pause in pauses_of(subscription)}
    is_late = phase.starts_at == part.start and phase.created_at > part.start
    is_over = part.start == subscription.trial_ends_at or part.start in ends
    return PlanStretch(part, phase.plan_version, rest_at(subscription, part.start), is_late or is_over)


def rest_at(subscription: Subscription, instant: datetime) -> Rest:
    """Why nothing is charged at an instant, if so."""
    if is_on_trial(subscription, instant):
        return Rest.TRIAL
    is_paused = any(
        pause.starts_at <= instant and (pause.ends_at is None or instant < pause.ends_at)
        for pause in pauses_of(subscription)
    )
    return Rest.PAUSE if is_paused else Rest.NONE


def is_on_trial(subscription: Subscription, instant: datetime) -> bool:
    return subscription.trial_ends_at is not None and instant < subscription.trial_ends_at


def first_period(subscription: Subscription) -> Period:
    return period_containing(subscription, subscription.anchor_at)


def earliest_open_period(subscription: Subscription) -> Period | None:
    """The first period without an invoice; None once a subscription that ended has none left."""
    posted = invoices_of(subscription)
    open_from = posted[-1].period.end if posted else subscription.anchor_at
    has_ended = subscription.ends_at is not None and open_from >= subscription.ends_at
    return None if has_ended else period_containing(subscription, open_from)


def invoices_of(subscription: Subscription) -> list[PostedInvoice]:
    """The subscription's invoices in the order of their periods."""
    posted = posted_invoices(subscription.organisation)
    return sorted(
        (invoice for invoice in posted if invoice.subscription_id == subscription.pk),
        key=lambda invoice: invoice.period,
    )


@remembered
def posted_invoices(organisation: Organisation) -> tuple[PostedInvoice, ...]:
    """All of an organisation's invoices, oldest first."""
    return _posted_invoices([organisation])[organisation]


def look_up_invoices(organisations: Iterable[Organisation]) -> None:
    """Remember the invoices of many organisations at once."""
    for organisation, invoices in _posted_invoices(organisations).items():
        remember(posted_invoices, organisation, answer=invoices)


def _posted_invoices(organisations: Iterable[Organisation]) -> dict[Organisation, tuple[PostedInvoice, ...]]:
    rows = (
        Invoice.objects.filter(organisation__in=organisations)
        .order_by("pk")
        .values_list(
            "organisation_id",
            "pk",
            "number",
            "subscription_id",
            "currency",
            "period_start",
            "period_end",
            "finalised_at",
            "total_exact",
            Coalesce(Max("corrections__correction__known_at"), F("prices_known_at"), F("finalised_at")),
            Max("corrections__after"),
            "rated_by",
        )
    )
    found: dict[int, list[PostedInvoice]] = defaultdict(list)
    for organisation_id, pk, number, subscription_id, currency, start, end, *more in rows:
        found[organisation_id].append(PostedInvoice(pk, number, subscription_id, currency, Period(start, end), *more))
    return {organisation: tuple(found[organisation.pk]) for organisation in organisations}


def current_period(subscription: Subscription, now: datetime) -> Period:
    """The period that an instant falls into, or the last one of a subscription that ended before it."""
    last_instant = now if subscription.ends_at is None else min(now, subscription.ends_at - RESOLUTION)
    return period_containing(subscription, max(last_instant, subscription.anchor_at))


def goes_on_after(subscription: Subscription, period: Period) -> bool:
    return subscription.ends_at is None or subscription.ends_at > period.end


@remembered
def phases_of(subscription: Subscription) -> tuple[SubscriptionPhase, ...]:
    """In order, those to come included."""
    return tuple(sorted(subscription.phases.all(), key=lambda phase: phase.starts_at))


@remembered
def pauses_of(subscription: Subscription) -> tuple[SubscriptionPause, ...]:
    return tuple(subscription.pauses.all())


def phase_at(subscription: Subscription, instant: datetime) -> SubscriptionPhase:
    """The phase in force at an instant; the first one for anything before it."""
    phases = phases_of(subscription)
    begun = [phase for phase in phases if phase.starts_at <= instant]
    return begun[-1] if begun else phases[0]


def with_terms(subscription: Subscription) -> Subscription:
    """The subscription read anew, with its phases and their versions and its pauses, for code that asks often."""
    return Subscription.objects.select_related("organisation").prefetch_related(*TERMS).get(pk=subscription.pk)


def version_at(subscription: Subscription, instant: datetime) -> PlanVersion:
    return phase_at(subscription, instant).plan_version


def pending_phase(subscription: Subscription, now: datetime) -> SubscriptionPhase | None:
    """The change of plan that is still to come, if there is one."""
    return subscription.phases.select_related("plan_version__plan").filter(starts_at__gt=now).first()
