"""Credit that comes with a plan: granted when a period begins, once for each, in full however the plan changes in it.

By the version in force when the period begins. What is left ends with the period, or stays for as many more as the
version says; what then lies beyond its maximum lapses when the period is closed. A period that is paused from its
beginning until now has none yet. A sweep grants, subscribing does so at once, and closing makes up for a sweep that
did not come; the row of the subscription is locked each time, and a constraint stands behind it.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q

from accounts.remembering import remembering
from billing import schedules
from billing.crediting import book_grant
from billing.models import CreditGrant, GrantKind, PlanVersion, Subscription, SubscriptionPhase
from billing.models.subscriptions import SubscriptionState
from billing.periods import Period
from billing.schedules import Rest

AT_A_TIME = 2000


class _Owed(NamedTuple):
    subscription: Subscription
    period: Period
    version: PlanVersion
    amount: Decimal


def grant_due_credit(now: datetime) -> int:
    """Grant what the periods that have begun since bring with them; answers how many grants that were."""
    due = Subscription.objects.filter(Q(credit_granted_until=None) | Q(credit_granted_until__lte=now))
    bringing = SubscriptionPhase.objects.filter(subscription=OuterRef("pk"), plan_version__credit_amount__isnull=False)
    due = due.filter(Exists(bringing)).exclude(state=SubscriptionState.CANCELLED)
    due = due.order_by(F("credit_granted_until").asc(nulls_first=True), "pk")
    granted = 0
    for pk in list(due.values_list("pk", flat=True)[:AT_A_TIME]):
        with remembering(anew=True), transaction.atomic():
            rows = due.select_for_update(skip_locked=True, of=("self",)).select_related("organisation").filter(pk=pk)
            subscriptions = list(rows.prefetch_related(*schedules.TERMS))
            granted += len(grant_included(subscriptions, now))
            for subscription in subscriptions:
                _note_granted(subscription, now)
    return granted


def grant_included(subscriptions: Sequence[Subscription], now: datetime) -> list[CreditGrant]:
    """Grant what open periods of these brought and have not been granted yet. The caller has locked the rows."""
    owed = [one for subscription in subscriptions for one in _owed(subscription, now)]
    if not owed:
        return []
    rows = CreditGrant.objects.filter(subscription__in={one.subscription for one in owed})
    known = set(rows.values_list("subscription_id", "period_start"))
    return [_grant(one, now) for one in owed if (one.subscription.pk, one.period.start) not in known]


def _owed(subscription: Subscription, now: datetime) -> Iterator[_Owed]:
    """What the open periods that have begun are worth."""
    if all(phase.plan_version.credit_amount is None for phase in schedules.phases_of(subscription)):
        return
    period = schedules.earliest_open_period(subscription)
    while period is not None and period.start <= now:
        version = schedules.version_at(subscription, period.start)
        if version.credit_amount is not None and not _is_paused_so_far(subscription, period, now):
            yield _Owed(subscription, period, version, version.credit_amount)
        period = schedules.period_after(subscription, period) if schedules.goes_on_after(subscription, period) else None


def _is_paused_so_far(subscription: Subscription, period: Period, now: datetime) -> bool:
    begun = [stretch for stretch in schedules.stretches(subscription, period) if stretch.period.start <= now]
    return all(stretch.rest == Rest.PAUSE for stretch in begun)


def _grant(owed: _Owed, now: datetime) -> CreditGrant:
    subscription, period, version = owed.subscription, owed.period, owed.version
    return book_grant(
        CreditGrant(
            organisation=subscription.organisation,
            kind=GrantKind.PLAN,
            amount=owed.amount,
            currency=version.currency,
            priority=version.credit_priority,
            effective_at=period.start,
            expires_at=_last_end(subscription, period, version.credit_rolls_for),
            reason=f"Included in {version.plan.name}",
            created_at=now,
            subscription=subscription,
            period_start=period.start,
        ),
        now=now,
        actor="plan",
    )


def _last_end(subscription: Subscription, period: Period, more: int) -> datetime:
    """When the period ends, or as many more later."""
    for _ in range(more):
        period = schedules.period_after(subscription, period)
    return period.end


def _note_granted(subscription: Subscription, now: datetime) -> None:
    """Until when nothing is to be granted; a pause that began with the period is looked at again until it ends."""
    period = schedules.current_period(subscription, now)
    if not _is_paused_so_far(subscription, period, now):
        Subscription.objects.filter(pk=subscription.pk).update(credit_granted_until=period.end)
