"""Coupons: what they take off, for how long, how often they may be redeemed; and who redeemed which."""

from typing import Any

from django.db import models
from django.utils import timezone

from accounts.public_ids import new_public_id
from accounts.tenancy import OrganisationOwned, OrganisationQuerySet
from billing.models.subscriptions import Subscription


def coupon_id() -> str:
    return new_public_id("coup")


def redemption_id() -> str:
    return new_public_id("redm")


class CouponDuration(models.TextChoices):
    ONCE = "once", "Once: one period"
    PERIODS = "periods", "A number of periods"
    FOREVER = "forever", "For as long as the subscription lasts"


class Coupon(models.Model):
    public_id = models.CharField(max_length=32, unique=True, default=coupon_id, editable=False)
    # What customers type: capital letters, digits and dashes.
    code = models.CharField(max_length=40, unique=True)
    # What stands on the bill: "Launch offer".
    name = models.CharField(max_length=120)
    # One of the two: 25 is 25 percent off; or so much per period, in the currency's major unit.
    percent = models.DecimalField(max_digits=9, decimal_places=6, null=True, blank=True)
    amount = models.DecimalField(max_digits=20, decimal_places=6, null=True, blank=True)
    # Of the amount; empty for a percentage.
    currency = models.CharField(max_length=3, blank=True)
    duration = models.CharField(max_length=16, choices=CouponDuration, default=CouponDuration.ONCE)
    # How many, where it is for a number of periods.
    periods = models.PositiveSmallIntegerField(null=True, blank=True)
    # Until when it may be redeemed; null without an end.
    expires_at = models.DateTimeField(null=True, blank=True)
    # Redemptions in all; null without a limit.
    most_redemptions = models.PositiveIntegerField(null=True, blank=True)
    most_per_organisation = models.PositiveSmallIntegerField(default=1)
    # How often it was redeemed; counted up in the statement that checks the limit.
    redeemed = models.PositiveIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(percent__isnull=False, percent__gt=0, percent__lte=100, amount=None, currency="")
                | models.Q(amount__isnull=False, amount__gt=0, percent=None) & ~models.Q(currency=""),
                name="coupon_percent_or_amount",
            ),
            models.CheckConstraint(
                condition=models.Q(duration=CouponDuration.PERIODS, periods__isnull=False, periods__gt=0)
                | ~models.Q(duration=CouponDuration.PERIODS) & models.Q(periods=None),
                name="coupon_periods_where_they_count",
            ),
            models.CheckConstraint(
                condition=models.Q(most_redemptions=None) | models.Q(redeemed__lte=models.F("most_redemptions")),
                name="coupon_within_its_limit",
            ),
        ]

    def __str__(self) -> str:
        return self.code


class CouponRedemption(OrganisationOwned):
    public_id = models.CharField(max_length=32, unique=True, default=redemption_id, editable=False)
    coupon = models.ForeignKey(Coupon, on_delete=models.PROTECT, related_name="redemptions")
    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, related_name="redemptions")
    redeemed_at = models.DateTimeField()
    # The beginning of the first period that it takes something off.
    starts_at = models.DateTimeField()
    # Null, or from when on an operator took it away: periods that begin later are charged in full.
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    objects: Any = OrganisationQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.coupon_id} for {self.subscription_id}"
