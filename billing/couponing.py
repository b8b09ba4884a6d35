"""Defining coupons, and redeeming them: by code in the portal, or given by an operator.

A limit is checked and counted up by one statement, so that any number of redemptions at once never exceeds it.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.http import HttpRequest

from accounts.audit import Actor, record
from accounts.errors import DomainError
from billing import schedules
from billing.models import Coupon, CouponDuration, CouponRedemption, Subscription
from billing.money import CURRENCIES
from billing.subscribing import locked_current

# What it takes off, which is settled with the first redemption; and what else is said when it is made.
TERMS = ("code", "percent", "amount", "currency", "duration", "periods")
GIVEN = (*TERMS, "name", "expires_at", "most_redemptions", "most_per_organisation")
CODE_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")


class CouponInvalid(DomainError):
    code = "coupon_invalid"
    sentence = "This coupon cannot be made."
    status = 422


class CouponExists(DomainError):
    code = "coupon_exists"
    sentence = "There is another coupon with this code."


class CouponUnknown(DomainError):
    code = "coupon_unknown"
    sentence = "There is no coupon with this code."
    status = 422


class CouponExpired(DomainError):
    code = "coupon_expired"
    sentence = "This coupon can no longer be redeemed."


class CouponUsedUp(DomainError):
    code = "coupon_used_up"
    sentence = "This coupon was redeemed as often as it can be."


class CouponDoesNotFit(DomainError):
    code = "coupon_does_not_fit"
    sentence = "This coupon is in another currency than your plan."


class RedemptionOver(DomainError):
    code = "redemption_over"
    sentence = "This coupon was taken away already."


def save_coupon(coupon: Coupon, *, actor: Actor = None, request: HttpRequest | None = None) -> Coupon:
    """Write a coupon. What it takes off and for how long is settled once it was redeemed. Raises CouponInvalid."""
    with transaction.atomic():
        known = Coupon.objects.select_for_update().filter(pk=coupon.pk).first()
        require_sound(coupon, known)
        coupon.redeemed = known.redeemed if known else 0
        coupon.save()
        action = "coupon.changed" if known else "coupon.created"
        _record(action, coupon, organisation=None, actor=actor, request=request)
    return coupon


def make_coupon(coupon: Coupon, *, actor: Actor = None, request: HttpRequest | None = None) -> tuple[Coupon, bool]:
    """Write a new coupon, and whether it was new: the same once more changes nothing.

    Raises CouponInvalid, and CouponExists where another one has its code.
    """
    coupon.code = normal_code(coupon.code)
    try:
        with transaction.atomic():
            if not Coupon.objects.filter(code=coupon.code).exists():
                return save_coupon(coupon, actor=actor, request=request), True
    except IntegrityError:  # another request made it meanwhile
        pass
    known = Coupon.objects.get(code=coupon.code)
    if any(getattr(known, name) != getattr(coupon, name) for name in GIVEN):
        raise CouponExists
    return known, False


def require_sound(coupon: Coupon, known: Coupon | None) -> None:
    """Raises CouponInvalid. `known` is the row as it stands, if there is one."""
    coupon.code = normal_code(coupon.code)
    if not coupon.code or not set(coupon.code) <= CODE_LETTERS:
        raise CouponInvalid("A code has letters, digits and dashes only.")
    if (coupon.percent is None) == (coupon.amount is None):
        raise CouponInvalid("A coupon takes off a percentage or an amount: give one of the two.")
    if coupon.percent is not None and not (0 < coupon.percent <= 100 and not coupon.currency):
        raise CouponInvalid("A percentage is above 0 and at most 100, and has no currency.")
    if (coupon.duration == CouponDuration.PERIODS) == (coupon.periods is None):
        raise CouponInvalid("Say how many periods where a coupon is for a number of them, and only there.")
    if coupon.amount is not None and coupon.currency not in CURRENCIES:
        raise CouponInvalid("An amount off needs a currency, such as USD.")
    if known is not None and known.redeemed and _terms(known) != _terms(coupon):
        raise CouponInvalid("It was redeemed already: only its limits, its name and its expiry can change.")
    try:
        coupon.full_clean(exclude=["public_id"])
    except ValidationError as error:
        raise CouponInvalid(" ".join(error.messages)) from error


def redeem(
    subscription: Subscription, code: str, *, now: datetime, actor: Actor = None, request: HttpRequest | None = None
) -> CouponRedemption:
    """Take the coupon off the subscription's bills, from the running period on.

    Raises CouponUnknown, CouponExpired, CouponUsedUp, CouponDoesNotFit and SubscriptionOver.
    """
    with transaction.atomic():
        locked = locked_current(subscription, now)
        coupon = Coupon.objects.filter(code=normal_code(code), archived_at=None).first()
        if coupon is None:
            raise CouponUnknown
        if coupon.expires_at is not None and coupon.expires_at <= now:
            raise CouponExpired
        if coupon.currency and coupon.currency != locked.currency:
            raise CouponDoesNotFit
        within = Q(most_redemptions=None) | Q(redeemed__lt=F("most_redemptions"))
        if not Coupon.objects.filter(within, pk=coupon.pk).update(redeemed=F("redeemed") + 1):
            raise CouponUsedUp
        # The statement holds the coupon's row, so nobody else counts meanwhile.
        of_organisation = CouponRedemption.objects.for_organisation(locked.organisation).filter(coupon=coupon)
        if of_organisation.count() >= coupon.most_per_organisation:
            raise CouponUsedUp
        redemption = CouponRedemption.objects.create(
            organisation=locked.organisation,
            coupon=coupon,
            subscription=locked,
            redeemed_at=now,
            starts_at=schedules.whole_period(locked, now).start,
        )
        _record("coupon.redeemed", coupon, organisation=locked.organisation, actor=actor, request=request)
    return redemption


def withdraw_redemption(
    redemption: CouponRedemption, *, now: datetime, actor: Actor = None, request: HttpRequest | None = None
) -> CouponRedemption:
    """Take a coupon away: the running period keeps it, those after it are charged in full. Raises RedemptionOver."""
    with transaction.atomic():
        locked = CouponRedemption.objects.select_for_update(of=("self",)).select_related("coupon").get(pk=redemption.pk)
        if locked.withdrawn_at is not None:
            raise RedemptionOver
        locked.withdrawn_at = now
        locked.save(update_fields=["withdrawn_at"])
        _record("coupon.withdrawn", locked.coupon, organisation=locked.organisation, actor=actor, request=request)
    return locked


def normal_code(text: str) -> str:
    return "".join(text.split()).upper()


def _terms(coupon: Coupon) -> Iterable[Any]:
    return [getattr(coupon, name) for name in TERMS]


def _record(action: str, coupon: Coupon, *, organisation: Any, actor: Actor, request: HttpRequest | None) -> None:
    record(
        action,
        organisation=organisation,
        actor=actor,
        subject_id=coupon.public_id,
        subject_label=coupon.code,
        details={"name": coupon.name, "code": coupon.code},
        request=request,
    )
