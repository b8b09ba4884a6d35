"""The limits and models that come with a plan, written into metering while the plan holds.

A verb that changes which plan holds writes them at once; a sweep finds what takes effect later, or could not be written
then. What stands in metering is noted on the subscription, so that nothing is written twice. While a subscription is
paused, calls are refused where gateways ask.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from django.db import transaction
from django.db.models import F, OuterRef, Q, Subquery

from accounts.errors import DomainError
from accounts.key_restrictions import valid_models
from billing import schedules
from billing.models import PlanVersion, Subscription, SubscriptionPhase
from billing.models.subscriptions import SubscriptionState
from metering.models import Enforcement, Measure, Meter, Window
from metering.quotas import QuotaSpec, replace_plan_quotas, set_plan_models

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 200
# Nobody is told that all of nothing is used.
NO_CALLS = QuotaSpec(measure=Measure.REQUESTS, amount=Decimal(0), window=Window.NONE, thresholds=())


class LimitsInvalid(DomainError):
    code = "limits_invalid"
    sentence = "These limits cannot come with a plan."


def write_limits(subscription: Subscription, now: datetime) -> bool:
    """Bring metering to what the subscription's plan says now. False where metering refused; the sweep tries again."""
    version = _version_that_holds(subscription, now)
    is_paused = version is not None and subscription.state == SubscriptionState.PAUSED
    specs = [*(specs_of(version) if version else ()), *([NO_CALLS] if is_paused else ())]
    try:
        with transaction.atomic():
            if version is not None or not _has_another(subscription):
                replace_plan_quotas(subscription.organisation, specs, now=now)
                set_plan_models(subscription.organisation, version.allowed_models if version else (), now=now)
            subscription.limits_of = version
            subscription.save(update_fields=["limits_of"])
    except DomainError as error:
        logger.warning("The limits of subscription %s were refused: %s", subscription.public_id, error.sentence)
        return False
    return True


def write_due_limits(now: datetime) -> int:
    """Write the limits of plans that took effect, or ended, since; how many subscriptions."""
    newest = SubscriptionPhase.objects.filter(subscription=OuterRef("pk"), starts_at__lte=now).order_by("-starts_at")
    rows = Subscription.objects.annotate(holds=Subquery(newest.values("plan_version")[:1]))
    is_over = Q(ends_at__lte=now) | Q(state=SubscriptionState.CANCELLED)
    changed = ~is_over & (Q(limits_of=None) | ~Q(limits_of=F("holds")))
    due = rows.filter(changed | is_over & Q(limits_of__isnull=False)).order_by("pk").values_list("pk", flat=True)
    written = 0
    for pk in list(due[:MOST_AT_ONCE]):
        with transaction.atomic():
            row = Subscription.objects.select_for_update(skip_locked=True, of=("self",)).filter(pk=pk).first()
            written += row is not None and write_limits(row, now)
    return written


def specs_of(version: PlanVersion) -> list[QuotaSpec]:
    """Raises LimitsInvalid."""
    return [_spec(limit) for limit in version.limits]


def require_sound(limits: Sequence[Mapping[str, Any]], allowed_models: Sequence[str]) -> None:
    """Raises LimitsInvalid, and what `valid_models` raises."""
    valid_models(allowed_models)
    for spec in map(_spec, limits):
        valid_models(spec.models)
        known = Meter.objects.active().filter(key=spec.meter_key).first()
        if spec.measure == Measure.METER and (known is None or not known.is_additive):
            raise LimitsInvalid("A limit of a meter names one whose totals can be added up, such as input_tokens.")
        if spec.measure == Measure.SPEND and not spec.currency:
            raise LimitsInvalid("A limit of spend names its currency, such as USD.")


def _spec(limit: Mapping[str, Any]) -> QuotaSpec:
    try:
        measure, amount = Measure(limit["measure"]), Decimal(limit["amount"])
        window, enforcement = Window(limit["window"]), Enforcement(limit.get("enforcement") or Enforcement.HARD)
    except (KeyError, ValueError, TypeError, InvalidOperation) as error:
        raise LimitsInvalid from error
    if not amount.is_finite() or amount < 0:
        raise LimitsInvalid("A limit is a number from zero up.")
    return QuotaSpec(
        measure=measure,
        amount=amount,
        window=window,
        meter_key=limit.get("meter") or "",
        currency=limit.get("currency") or "",
        enforcement=enforcement,
        models=tuple(limit.get("models") or ()),
    )


def _version_that_holds(subscription: Subscription, now: datetime) -> PlanVersion | None:
    has_ended = subscription.ends_at is not None and subscription.ends_at <= now
    if has_ended or subscription.state == SubscriptionState.CANCELLED:
        return None
    return schedules.version_at(subscription, now)


def _has_another(subscription: Subscription) -> bool:
    """Whether the organisation is on another plan by now, whose limits are not to be lifted."""
    others = Subscription.objects.for_organisation(subscription.organisation).current().exclude(pk=subscription.pk)
    return others.exists()
