"""Quotas: setting, changing, raising for a while, lifting. Each act is audited and bites on the next call.

A customer may set limits of its own and change those, never what the operator or the plan has set. A new quota begins
with what its running window has used already.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.http import HttpRequest

from accounts.audit import Actor, record
from accounts.errors import DomainError
from accounts.key_restrictions import valid_models
from accounts.models import ApiKey, Organisation, Project
from metering.models import (
    AdmissionSettings,
    Enforcement,
    Measure,
    Meter,
    PriceEstimate,
    Quota,
    QuotaIncrease,
    QuotaScope,
    SetBy,
    Window,
)
from metering.recounting import recount

MOST_QUOTAS = 200
CHANGEABLE = ("amount", "enforcement", "thresholds")


class QuotaInvalid(DomainError):
    code = "invalid_quota"
    status = 422
    sentence = "This limit cannot be set."


class QuotaNotYours(DomainError):
    code = "quota_not_yours"
    status = 403
    sentence = "This limit was set by your provider. Set a lower one of your own, or ask them to change it."


class AboveProvidersLimit(DomainError):
    code = "above_providers_limit"
    status = 422
    sentence = "Your provider's limit is lower than that, so it would never be reached."


class TooManyQuotas(DomainError):
    code = "too_many_quotas"
    status = 422
    sentence = f"An organisation can have {MOST_QUOTAS} limits. Remove one that is no longer needed."


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaSpec:
    """What a limit counts and how much it allows; `amount` in the meter's unit, in calls or in the major unit."""

    measure: str
    amount: Decimal
    window: str
    meter_key: str = ""
    scope: str = QuotaScope.ORGANISATION
    currency: str = ""
    enforcement: str = Enforcement.HARD
    models: tuple[str, ...] = ()
    thresholds: tuple[int, ...] = (80, 100)
    project: Project | None = None
    api_key: ApiKey | None = None
    end_user: str = ""


def define_quota(
    organisation: Organisation,
    spec: QuotaSpec,
    *,
    set_by: str,
    now: datetime,
    actor: Actor = None,
    request: HttpRequest | None = None,
) -> Quota:
    """Set a limit. Raises QuotaInvalid and TooManyQuotas."""
    _require_sound(spec)
    with transaction.atomic():
        Organisation.objects.select_for_update(no_key=True).get(pk=organisation.pk)
        if Quota.objects.for_organisation(organisation).active().count() >= MOST_QUOTAS:
            raise TooManyQuotas
        meter = _meter(spec)
        if set_by in (SetBy.CUSTOMER, SetBy.OPERATOR):
            _require_currency_of_prices(organisation, spec.currency)
        if set_by == SetBy.CUSTOMER:
            _require_below_providers(organisation, spec.measure, meter, spec, spec.amount)
        quota = Quota.objects.create(
            organisation=organisation,
            measure=spec.measure,
            meter=meter,
            scope=spec.scope,
            project_id=spec.project.pk if spec.project else None,
            api_key_id=spec.api_key.pk if spec.api_key else None,
            end_user=spec.end_user,
            window=spec.window,
            amount=_amount(spec.amount),
            currency=spec.currency,
            enforcement=spec.enforcement,
            model_patterns=valid_models(spec.models),
            thresholds=_thresholds(spec.thresholds),
            set_by=set_by,
            created_at=now,
        )
        recount(quota, now)
        _record("quota.set", quota, actor, request, {"limit": str(quota), "scope": quota.scope, "set_by": set_by})
    return quota


def change_quota(
    quota: Quota,
    *,
    by_customer: bool,
    actor: Actor = None,
    request: HttpRequest | None = None,
    **changes: Any,
) -> Quota:
    """Change the amount, the enforcement or the thresholds. Raises QuotaNotYours and QuotaInvalid."""
    with transaction.atomic():
        locked = Quota.objects.select_for_update(of=("self",)).select_related("meter", "organisation").get(pk=quota.pk)
        _require_allowed(locked, by_customer)
        if by_customer and "amount" in changes:
            _require_below_providers(locked.organisation, locked.measure, locked.meter, locked, changes["amount"])
        before = {name: str(getattr(locked, name)) for name in changes}
        for name, value in changes.items():
            if name not in CHANGEABLE:
                raise QuotaInvalid(f"The {name.replace('_', ' ')} of a limit never changes. Set another limit.")
            setattr(locked, name, _checked(name, value))
        locked.save(update_fields=list(changes))
        details = {name: [before[name], str(getattr(locked, name))] for name in changes}
        _record("quota.changed", locked, actor, request, details)
    return locked


def archive_quota(
    quota: Quota, *, by_customer: bool, now: datetime, actor: Actor = None, request: HttpRequest | None = None
) -> Quota:
    """Lift a limit; its history stays."""
    with transaction.atomic():
        locked = Quota.objects.select_for_update(of=("self",)).select_related("meter", "organisation").get(pk=quota.pk)
        _require_allowed(locked, by_customer)
        if locked.archived_at is None:
            locked.archived_at = now
            locked.save(update_fields=["archived_at"])
            _record("quota.lifted", locked, actor, request, {"limit": str(locked)})
    return locked


def add_increase(
    quota: Quota,
    amount: Decimal,
    *,
    starts_at: datetime,
    ends_at: datetime,
    reason: str = "",
    actor: Actor = None,
    request: HttpRequest | None = None,
) -> QuotaIncrease:
    """Allow more for a while. Raises QuotaInvalid."""
    if amount <= 0 or ends_at <= starts_at:
        raise QuotaInvalid("An increase adds something, and ends after it starts.")
    with transaction.atomic():
        increase = QuotaIncrease.objects.create(
            quota=quota, amount=_amount(amount), starts_at=starts_at, ends_at=ends_at, reason=reason
        )
        details = {"amount": str(amount), "from": starts_at.isoformat(), "until": ends_at.isoformat()}
        _record("quota.increased", quota, actor, request, details | {"reason": reason})
    return increase


def replace_plan_quotas(organisation: Organisation, specs: Sequence[QuotaSpec], *, now: datetime) -> None:
    """The limits that come with a plan, in place of those of the plan before. The same limit is kept with its count."""
    with transaction.atomic():
        had = list(Quota.objects.for_organisation(organisation).active().filter(set_by=SetBy.PLAN).order_by("pk"))
        for spec in specs:
            same = next((quota for quota in had if _counts_the_same(quota, spec)), None)
            if same is None:
                define_quota(organisation, spec, set_by=SetBy.PLAN, now=now, actor="plan")
                continue
            had.remove(same)
            if (same.amount, same.enforcement) != (spec.amount, spec.enforcement):
                change_quota(same, by_customer=False, amount=spec.amount, enforcement=spec.enforcement, actor="plan")
        for quota in had:
            archive_quota(quota, by_customer=False, now=now, actor="plan")


def set_plan_models(organisation: Organisation, allowed: Sequence[str], *, now: datetime) -> None:
    """The models that a plan allows; none named: all."""
    AdmissionSettings.objects.update_or_create(
        organisation=organisation, defaults={"plan_models": valid_models(allowed)}
    )


def set_credit_limit(organisation: Organisation, *, amount: Decimal | None, currency: str, now: datetime) -> None:
    """What a prepaid organisation may spend in its whole life: what it ever paid in and may overdraw. None: not
    prepaid."""
    with transaction.atomic():
        Organisation.objects.select_for_update(no_key=True).get(pk=organisation.pk)
        quota = Quota.objects.for_organisation(organisation).active().filter(set_by=SetBy.CREDIT).first()
        if amount is None or (quota is not None and quota.currency != currency):
            if quota is not None:
                archive_quota(quota, by_customer=False, now=now, actor="credits")
            quota = None
        if amount is None:
            return
        if quota is not None:
            Quota.objects.filter(pk=quota.pk).update(amount=amount)
            return
        # A counter that never begins anew is always near its limit: whoever tops up is told by billing.
        spec = QuotaSpec(measure=Measure.SPEND, amount=amount, window=Window.NONE, currency=currency, thresholds=())
        define_quota(organisation, spec, set_by=SetBy.CREDIT, now=now, actor="credits")


def change_admission_settings(
    settings: AdmissionSettings, *, currency: str, actor: Actor = None, request: HttpRequest | None = None
) -> AdmissionSettings:
    """Save what gateways are to do while we cannot be asked, and what calls are taken to need."""
    settings.currency = currency if settings.unreachable_amount is not None else ""
    with transaction.atomic():
        settings.save()
        names = ("when_unreachable", "unreachable_requests", "unreachable_amount")
        record(
            "admission_settings.changed",
            organisation=settings.organisation,
            actor=actor,
            details={name: str(getattr(settings, name)) for name in names},
            request=request,
        )
    return settings


def _require_sound(spec: QuotaSpec) -> None:
    if (spec.measure == Measure.SPEND) != bool(spec.currency):
        raise QuotaInvalid("A limit of spend names its currency, and no other limit has one.")
    if spec.measure == Measure.CONCURRENT and spec.window != Window.NONE:
        raise QuotaInvalid("Calls at the same time are limited without a window: choose `none`.")


def _require_currency_of_prices(organisation: Organisation, currency: str) -> None:
    """Spend is what units cost at the prices that were told; nothing converts them."""
    if not currency:
        return
    prices = PriceEstimate.objects.filter(organisation=organisation).order_by("-valid_from")
    told = prices.values_list("currency", flat=True).first()
    if told and told != currency:
        raise QuotaInvalid(f"Spend is counted in {told}, as on the bill.")
    if not (len(currency) == 3 and currency.isascii() and currency.isalpha() and currency.isupper()):
        raise QuotaInvalid("A currency is three capital letters, such as USD.")


def _meter(spec: QuotaSpec) -> Meter | None:
    if spec.measure != Measure.METER:
        return None
    meter = Meter.objects.active().filter(key=spec.meter_key).first()
    if meter is None or not meter.is_additive:
        raise QuotaInvalid("Name a meter whose totals can be added up, such as input_tokens.")
    return meter


def _amount(amount: Decimal) -> Decimal:
    if not amount.is_finite() or amount < 0 or amount.adjusted() > 24:
        raise QuotaInvalid("A limit is a number from zero up.")
    return amount


def _thresholds(thresholds: Sequence[int]) -> list[int]:
    if any(not 0 < percent <= 1000 for percent in thresholds) or len(thresholds) > 10:
        raise QuotaInvalid("Thresholds are up to ten percentages from 1 to 1000.")
    return sorted(set(thresholds))


def _checked(name: str, value: Any) -> Any:
    match name:
        case "amount":
            return _amount(value)
        case "thresholds":
            return _thresholds(value)
    return value


def _counts_the_same(quota: Quota, spec: QuotaSpec) -> bool:
    meter_key = quota.meter.key if quota.meter else ""
    mine = (quota.measure, meter_key, quota.scope, quota.window, quota.currency, tuple(quota.model_patterns))
    return mine == (spec.measure, spec.meter_key, spec.scope, spec.window, spec.currency, spec.models)


def _require_allowed(quota: Quota, by_customer: bool) -> None:
    if by_customer and quota.set_by != SetBy.CUSTOMER:
        raise QuotaNotYours


def _require_below_providers(
    organisation: Organisation, measure: str, meter: Meter | None, like: Quota | QuotaSpec, amount: Decimal
) -> None:
    """A customer's limit lies at or below what the operator or the plan allows for the same thing."""
    same = Quota.objects.for_organisation(organisation).active().exclude(set_by=SetBy.CUSTOMER)
    lower = same.filter(
        measure=measure,
        meter=meter,
        window=like.window,
        currency=like.currency,
        enforcement=Enforcement.HARD,
        scope=QuotaScope.ORGANISATION,
        model_patterns=[],
        amount__lt=amount,
    )
    if lower.exists():
        raise AboveProvidersLimit


def _record(action: str, quota: Quota, actor: Actor, request: HttpRequest | None, details: dict[str, Any]) -> None:
    record(
        action,
        organisation=quota.organisation,
        actor=actor,
        subject_id=quota.public_id,
        subject_label=str(quota),
        details=details,
        request=request,
    )
