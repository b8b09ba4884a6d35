"""Times in which nothing is charged: trials and pauses.

Usage is metered then as ever and stands on the bill as not charged. Fees are not owed, and allowances, commitments and
caps count for the rest of the period only. The clock of the periods goes on. Whether time is charged follows from the
instants kept here; the subscription's state only says so.
"""

from datetime import datetime, timedelta

from django.db import transaction
from django.http import HttpRequest

from accounts.audit import Actor
from accounts.errors import DomainError
from billing import plan_limits, schedules
from billing.models import Subscription
from billing.models.subscriptions import SubscriptionState
from billing.periods import next_quarter_hour, quarter_hour_floor
from billing.price_estimates import write_estimates
from billing.subscribing import locked_current, record_change

MOST_AT_ONCE = 200


class NotOnTrial(DomainError):
    code = "not_on_trial"
    sentence = "This subscription is not in a trial."


class TrialEndPast(DomainError):
    code = "trial_end_past"
    sentence = "A trial ends now at the earliest."
    status = 422


class PausedAlready(DomainError):
    code = "paused_already"
    sentence = "This subscription is paused already."


class NotPaused(DomainError):
    code = "not_paused"
    sentence = "This subscription is not paused."


def move_trial_end(
    subscription: Subscription,
    *,
    ends_at: datetime,
    now: datetime,
    actor: Actor = None,
    request: HttpRequest | None = None,
) -> Subscription:
    """Make the trial longer or shorter; from the quarter hour at or before its end on everything is charged.

    Raises NotOnTrial and TrialEndPast.
    """
    with transaction.atomic():
        locked = locked_current(subscription, now)
        if locked.trial_ends_at is None or locked.trial_ends_at <= now:
            raise NotOnTrial
        at = quarter_hour_floor(ends_at)
        if at < quarter_hour_floor(now):
            raise TrialEndPast
        locked.trial_ends_at, locked.trial_reminded_at = at, None
        locked.save(update_fields=["trial_ends_at", "trial_reminded_at"])
        _set_state(locked, now)
        version = schedules.version_at(locked, now)
        write_estimates(locked.organisation, now)
        record_change(
            "subscription.trial_moved", locked, version, actor=actor, request=request, trial_ends_at=at.isoformat()
        )
    return locked


def end_trials(now: datetime) -> int:
    """Say of subscriptions whose trial is over that they are active; how many."""
    over = Subscription.objects.filter(state=SubscriptionState.TRIALING, trial_ends_at__lte=now)
    ended = 0
    for pk in list(over.order_by("pk").values_list("pk", flat=True)[:MOST_AT_ONCE]):
        with transaction.atomic():
            row = over.select_for_update(skip_locked=True).filter(pk=pk).first()
            if row is not None:
                _set_state(row, now)
                version = schedules.version_at(row, now)
                write_estimates(row.organisation, now)
                record_change("subscription.trial_ended", row, version, actor=None, request=None)
                ended += 1
    return ended


def pause(
    subscription: Subscription,
    *,
    now: datetime,
    reason: str = "",
    actor: Actor = None,
    request: HttpRequest | None = None,
) -> Subscription:
    """Charge nothing from the next quarter hour on, until the pause is ended. Raises PausedAlready."""
    with transaction.atomic():
        locked = locked_current(subscription, now)
        if locked.state == SubscriptionState.PAUSED:
            raise PausedAlready
        starts_at = next_quarter_hour(now)
        locked.pauses.create(starts_at=starts_at, reason=reason)
        _set_state(locked, now)
        plan_limits.write_limits(locked, now)
        version = schedules.version_at(locked, now)
        write_estimates(locked.organisation, now)
        record_change("subscription.paused", locked, version, actor=actor, request=request, reason=reason)
    return locked


def end_pause(
    subscription: Subscription, *, now: datetime, actor: Actor = None, request: HttpRequest | None = None
) -> Subscription:
    """Charge again, from the quarter hour that runs. Raises NotPaused."""
    with transaction.atomic():
        locked = locked_current(subscription, now)
        open_pause = locked.pauses.filter(ends_at=None).first()
        if open_pause is None:
            raise NotPaused
        ends_at = quarter_hour_floor(now)
        if ends_at > open_pause.starts_at:
            open_pause.ends_at = ends_at
            open_pause.save(update_fields=["ends_at"])
        else:  # it had not begun
            open_pause.delete()
        _set_state(locked, now)
        plan_limits.write_limits(locked, now)
        version = schedules.version_at(locked, now)
        write_estimates(locked.organisation, now)
        record_change("subscription.pause_ended", locked, version, actor=actor, request=request)
    return locked


def trial_reminder_due(now: datetime, *, ahead: timedelta) -> list[int]:
    """Primary keys of subscriptions whose trial ends soon and whose customers were not told."""
    due = Subscription.objects.filter(
        state=SubscriptionState.TRIALING,
        trial_ends_at__gt=now,
        trial_ends_at__lte=now + ahead,
        trial_reminded_at=None,
        ends_at=None,
    )
    return list(due.order_by("trial_ends_at").values_list("pk", flat=True)[:MOST_AT_ONCE])


def _set_state(subscription: Subscription, now: datetime) -> None:
    if subscription.pauses.filter(ends_at=None).exists():
        subscription.state = SubscriptionState.PAUSED
    else:
        subscription.state = (
            SubscriptionState.TRIALING if schedules.is_on_trial(subscription, now) else SubscriptionState.ACTIVE
        )
    subscription.save(update_fields=["state"])
