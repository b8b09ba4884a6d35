"""When a subscription's periods are, and which plan version rules in each. Everything follows from the anchor.

Reads phases and invoices; changes nothing.
"""

from datetime import datetime, timedelta

from billing.models import Invoice, PlanVersion, Subscription, SubscriptionPhase
from billing.periods import Cadence, Period, next_period, period_at

RESOLUTION = timedelta(microseconds=1)


def period_containing(subscription: Subscription, instant: datetime) -> Period:
    """The period of the subscription's schedule that an instant falls into."""
    return period_at(
        subscription.anchor_at, instant=instant, zone=subscription.zone, cadence=Cadence(subscription.cadence)
    )


def period_after(subscription: Subscription, period: Period) -> Period:
    return next_period(
        subscription.anchor_at, period=period, zone=subscription.zone, cadence=Cadence(subscription.cadence)
    )


def first_period(subscription: Subscription) -> Period:
    return period_containing(subscription, subscription.anchor_at)


def earliest_open_period(subscription: Subscription) -> Period | None:
    """The first period without an invoice; None once a subscription that ended has none left."""
    last_end = (
        Invoice.objects.filter(subscription=subscription)
        .order_by("-period_start")
        .values_list("period_end", flat=True)
        .first()
    )
    period = period_containing(subscription, last_end or subscription.anchor_at)
    has_ended = subscription.ends_at is not None and period.start >= subscription.ends_at
    return None if has_ended else period


def current_period(subscription: Subscription, now: datetime) -> Period:
    """The period that an instant falls into, or the last one of a subscription that ended before it."""
    last_instant = now if subscription.ends_at is None else min(now, subscription.ends_at - RESOLUTION)
    return period_containing(subscription, max(last_instant, subscription.anchor_at))


def goes_on_after(subscription: Subscription, period: Period) -> bool:
    return subscription.ends_at is None or subscription.ends_at > period.end


def phase_at(subscription: Subscription, instant: datetime) -> SubscriptionPhase:
    """The phase in force at an instant; the first one for anything before it."""
    phases = sorted(subscription.phases.all(), key=lambda phase: phase.starts_at)
    begun = [phase for phase in phases if phase.starts_at <= instant]
    return begun[-1] if begun else phases[0]


def with_terms(subscription: Subscription) -> Subscription:
    """The subscription read anew, with its phases, their versions and components, for code that asks often."""
    rows = Subscription.objects.select_related("organisation").prefetch_related(
        "phases__plan_version__plan", "phases__plan_version__components__meter"
    )
    return rows.get(pk=subscription.pk)


def version_at(subscription: Subscription, instant: datetime) -> PlanVersion:
    return phase_at(subscription, instant).plan_version


def pending_phase(subscription: Subscription, now: datetime) -> SubscriptionPhase | None:
    """The change of plan that is still to come, if there is one."""
    return subscription.phases.select_related("plan_version__plan").filter(starts_at__gt=now).first()
