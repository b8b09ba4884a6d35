"""Subscribing an organisation to a plan, changing the plan, cancelling.

An organisation has at most one current subscription, which the database guarantees. A plan changes where a period ends
or at once; what that means for a bill is the business of `fees` and `rating.stretches`. Periods follow from the anchor
and the zone frozen here; nothing later moves them. Sends nothing and charges nothing.
"""

from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.http import HttpRequest

from accounts.audit import Actor, record
from accounts.errors import DomainError
from accounts.models import Membership, Organisation
from accounts.models.organisations import Role
from billing import plan_limits, schedules
from billing.models import BillingDetails, PlanVersion, Subscription
from billing.models.subscriptions import SubscriptionState
from billing.periods import days_later, next_quarter_hour, quarter_hour_floor
from billing.plan_credits import grant_included
from billing.price_estimates import write_estimates


class AlreadySubscribed(DomainError):
    code = "already_subscribed"
    sentence = "This organisation has a plan already. Change that one instead."


class PlanNotOnOffer(DomainError):
    code = "plan_not_on_offer"
    sentence = "This plan cannot be chosen: it is not published, or no longer offered."


class PlanDoesNotFit(DomainError):
    code = "plan_does_not_fit"
    sentence = "This plan is in another currency or billed at another rhythm. Cancel first, then choose it."


class SamePlan(DomainError):
    code = "same_plan"
    sentence = "This is the plan you have."


class NoChangePending(DomainError):
    code = "no_change_pending"
    sentence = "There is no change of plan to take back."


class SubscriptionOver(DomainError):
    code = "subscription_over"
    sentence = "This subscription has ended."


class NotCancelled(DomainError):
    code = "not_cancelled"
    sentence = "This subscription is not cancelled."


class AnchorInFuture(DomainError):
    code = "anchor_in_future"
    sentence = "A subscription cannot start in the future."
    status = 422


class AnchorOverlaps(DomainError):
    code = "anchor_overlaps"
    sentence = "An earlier subscription already bills that time."


def subscribe(
    organisation: Organisation,
    plan_version: PlanVersion,
    *,
    now: datetime,
    anchor: datetime | None = None,
    trial_days: int | None = None,
    actor: Actor = None,
    request: HttpRequest | None = None,
) -> Subscription:
    """Start the organisation's subscription at the quarter hour at or before the anchor (now unless given).

    It begins with the trial of the plan, unless the organisation had one, or with one of `trial_days`.
    """
    _require_on_offer(plan_version, organisation)
    anchor_at = quarter_hour_floor(anchor or now)
    if anchor_at > now:
        raise AnchorInFuture
    with transaction.atomic():
        _retire_ended(organisation, now)
        subscription = _create(organisation, plan_version, anchor_at, trial_days=trial_days, now=now)
        if Subscription.objects.for_organisation(organisation).filter(ends_at__gt=anchor_at).exists():
            raise AnchorOverlaps
        subscription.phases.create(plan_version=plan_version, starts_at=anchor_at, created_at=now)
        ensure_billing_details(organisation)
        # In this order, so that what was used since the anchor counts on a limit of spend.
        write_estimates(subscription.organisation, now)
        plan_limits.write_limits(subscription, now)
        grant_included([subscription], now)
        record_change("subscription.started", subscription, plan_version, actor=actor, request=request)
    return subscription


def change_plan(
    subscription: Subscription,
    plan_version: PlanVersion,
    *,
    now: datetime,
    at_once: bool = False,
    on: datetime | None = None,
    actor: Actor = None,
    request: HttpRequest | None = None,
) -> Subscription:
    """Take another plan version from the next period on, or from the quarter hour that runs, or from the quarter
    hour `on` lies in (at once, where that is past), instead of any change still to come.

    Choosing the version already in force takes a coming change back. A subscription that was to end goes on.
    """
    with transaction.atomic():
        locked = locked_current(subscription, now)
        require_change_possible(locked, plan_version, now)
        locked.phases.filter(starts_at__gt=now).delete()
        if plan_version != schedules.version_at(locked, now):
            starts_at = change_takes_effect(locked, now, at_once=at_once)
            if on is not None:
                starts_at = quarter_hour_floor(max(on, now))
            locked.phases.update_or_create(
                starts_at=starts_at, defaults={"plan_version": plan_version, "created_at": now}
            )
        _set_end(locked, None)
        plan_limits.write_limits(locked, now)
        write_estimates(locked.organisation, now)
        record_change("subscription.plan_changed", locked, plan_version, actor=actor, request=request, at_once=at_once)
    return locked


def require_change_possible(subscription: Subscription, plan_version: PlanVersion, now: datetime) -> None:
    """Raises PlanNotOnOffer, PlanDoesNotFit and SamePlan."""
    _require_on_offer(plan_version, subscription.organisation)
    if (plan_version.currency, plan_version.cadence) != (subscription.currency, subscription.cadence):
        raise PlanDoesNotFit
    pending = schedules.pending_phase(subscription, now)
    is_in_force = plan_version == schedules.version_at(subscription, now)
    if is_in_force and pending is None and subscription.ends_at is None:
        raise SamePlan


def change_takes_effect(subscription: Subscription, now: datetime, *, at_once: bool) -> datetime:
    """At once means from the quarter hour that runs: totals are kept by the quarter hour."""
    return quarter_hour_floor(now) if at_once else schedules.whole_period(subscription, now).end


def withdraw_change(
    subscription: Subscription, *, now: datetime, actor: Actor = None, request: HttpRequest | None = None
) -> Subscription:
    """Take back a change that is still to come. Raises NoChangePending."""
    with transaction.atomic():
        locked = locked_current(subscription, now)
        dropped, _ = locked.phases.filter(starts_at__gt=now).delete()
        if not dropped:
            raise NoChangePending
        kept = schedules.version_at(locked, now)
        write_estimates(locked.organisation, now)
        record_change("subscription.change_withdrawn", locked, kept, actor=actor, request=request)
    return locked


def cancel(
    subscription: Subscription,
    *,
    now: datetime,
    at_once: bool = False,
    actor: Actor = None,
    request: HttpRequest | None = None,
) -> Subscription:
    """End the subscription where its current period (or its trial) ends, or at the next quarter hour. What was used
    until then is still billed; of a fee in advance the unused part is given back."""
    with transaction.atomic():
        locked = locked_current(subscription, now)
        locked.phases.filter(starts_at__gt=now).delete()
        _set_end(locked, cancellation_takes_effect(locked, now, at_once=at_once))
        version = schedules.version_at(locked, now)
        write_estimates(locked.organisation, now)
        record_change("subscription.cancelled", locked, version, actor=actor, request=request, at_once=at_once)
    return locked


def cancellation_takes_effect(subscription: Subscription, now: datetime, *, at_once: bool) -> datetime:
    """At the next quarter hour; or with the trial, so that whoever leaves it owes nothing, else with the period."""
    if at_once:
        return next_quarter_hour(now)
    trial_ends_at = subscription.trial_ends_at
    if trial_ends_at is not None and schedules.is_on_trial(subscription, now):
        return trial_ends_at
    return schedules.whole_period(subscription, now).end


def resume(
    subscription: Subscription, *, now: datetime, actor: Actor = None, request: HttpRequest | None = None
) -> Subscription:
    """Take a cancellation back before it takes effect. Raises NotCancelled and SubscriptionOver."""
    with transaction.atomic():
        locked = locked_current(subscription, now)
        if locked.ends_at is None:
            raise NotCancelled
        _set_end(locked, None)
        write_estimates(locked.organisation, now)
        record_change("subscription.resumed", locked, schedules.version_at(locked, now), actor=actor, request=request)
    return locked


def current_subscription(organisation: Organisation, now: datetime) -> Subscription | None:
    """The subscription that counts usage now, if any."""
    subscription = Subscription.objects.for_organisation(organisation).current().first()
    return None if subscription is None or _is_over(subscription, now) else subscription


def ensure_billing_details(organisation: Organisation) -> BillingDetails:
    """The organisation's billing details, made from its name and first owner where there are none yet."""
    details = BillingDetails.objects.filter(organisation=organisation).first()
    if details is not None:
        return details
    owner = (
        Membership.objects.for_organisation(organisation)
        .filter(role=Role.OWNER)
        .select_related("user")
        .order_by("pk")
        .first()
    )
    email = owner.user.email if owner is not None else ""
    details, _ = BillingDetails.objects.get_or_create(
        organisation=organisation, defaults={"legal_name": organisation.name, "email": email}
    )
    return details


def _require_on_offer(plan_version: PlanVersion, organisation: Organisation) -> None:
    """A plan made for one organisation is nobody else's."""
    plan = plan_version.plan
    is_of_others = plan.organisation_id is not None and plan.organisation_id != organisation.pk
    if plan_version.published_at is None or plan.archived_at is not None or is_of_others:
        raise PlanNotOnOffer


def _create(
    organisation: Organisation,
    plan_version: PlanVersion,
    anchor_at: datetime,
    *,
    trial_days: int | None,
    now: datetime,
) -> Subscription:
    days = trial_days_of(organisation, plan_version) if trial_days is None else trial_days
    trial_ends_at = days_later(anchor_at, days, organisation.zone) if days else None
    is_on_trial = trial_ends_at is not None and trial_ends_at > now
    try:
        with transaction.atomic():
            return Subscription.objects.create(
                organisation=organisation,
                currency=plan_version.currency,
                cadence=plan_version.cadence,
                anchor_at=anchor_at,
                time_zone=organisation.time_zone,
                trial_ends_at=trial_ends_at,
                state=SubscriptionState.TRIALING if is_on_trial else SubscriptionState.ACTIVE,
            )
    except IntegrityError as error:
        raise AlreadySubscribed from error


def trial_days_of(organisation: Organisation, plan_version: PlanVersion) -> int:
    """How long a trial the organisation would have: one in its life."""
    had_one = Subscription.objects.for_organisation(organisation).exclude(trial_ends_at=None).exists()
    return 0 if had_one else plan_version.trial_days


def _retire_ended(organisation: Organisation, now: datetime) -> None:
    """A subscription past its end makes room for the next; its last period is closed all the same."""
    Subscription.objects.for_organisation(organisation).current().filter(ends_at__lte=now).update(
        state=SubscriptionState.CANCELLED
    )


def locked_current(subscription: Subscription, now: datetime) -> Subscription:
    """The row, locked. Raises SubscriptionOver."""
    locked = Subscription.objects.select_for_update().get(pk=subscription.pk)
    require_current(locked, now)
    return locked


def require_current(subscription: Subscription, now: datetime) -> None:
    """Raises SubscriptionOver."""
    if _is_over(subscription, now):
        raise SubscriptionOver


def state_at(subscription: Subscription, now: datetime) -> SubscriptionState:
    """By the clock: the row's own state is written by sweeps and so a little late."""
    if _is_over(subscription, now):
        return SubscriptionState.CANCELLED
    if subscription.state == SubscriptionState.TRIALING and not schedules.is_on_trial(subscription, now):
        return SubscriptionState.ACTIVE
    return SubscriptionState(subscription.state)


def _is_over(subscription: Subscription, now: datetime) -> bool:
    has_ended = subscription.ends_at is not None and subscription.ends_at <= now
    return has_ended or subscription.state == SubscriptionState.CANCELLED


def _set_end(subscription: Subscription, ends_at: datetime | None) -> None:
    subscription.ends_at = ends_at
    subscription.save(update_fields=["ends_at"])


def record_change(
    action: str,
    subscription: Subscription,
    plan_version: PlanVersion,
    *,
    actor: Actor,
    request: HttpRequest | None,
    at_once: bool = False,
    **more: Any,
) -> None:
    details: dict[str, Any] = {"plan": plan_version.plan.key, "version": plan_version.number, **more}
    if at_once:
        details["at_once"] = True
    if subscription.ends_at is not None:
        details["ends_at"] = subscription.ends_at.isoformat()
    record(
        action,
        organisation=subscription.organisation,
        actor=actor,
        subject_id=subscription.public_id,
        subject_label=plan_version.plan.name,
        details=details,
        request=request,
    )
