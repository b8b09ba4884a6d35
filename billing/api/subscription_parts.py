"""A subscription, a coupon and a change of plan as the API writes them, and what it takes to make them."""

from datetime import datetime
from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse
from rest_framework import serializers

from accounts.problems import CONTENT_TYPE
from billing import discounts, schedules, subscribing
from billing.api.bills import LINE, LineOutput
from billing.api.parts import REFUSALS, PlainDecimal
from billing.models import Coupon, CouponDuration, CouponRedemption, PlanVersion, Subscription
from billing.models.subscriptions import SubscriptionState
from billing.periods import Period

WHEN = ("period_end", "now")
MOST_TRIAL_DAYS = 1000
VERSION = {"plan": "team", "name": "Team", "version": 2}
REDEMPTION = {
    "id": "redm_7k2mcd4f9ghjk3npqrst",
    "code": "LAUNCH",
    "name": "Launch offer",
    "words": "20% off",
    "redeemed_at": "2026-11-03T09:12:00Z",
    "starts_at": "2026-11-01T00:00:00Z",
    "periods_left": 2,
    "withdrawn_at": None,
}
SUBSCRIPTION = {
    "id": "sub_7k2mcd4f9ghjk3npqrst",
    "organisation": "org_5b6c7d8f9g2h3j4k6mnp",
    "state": "active",
    **VERSION,
    "currency": "USD",
    "cadence": "month",
    "time_zone": "Europe/Berlin",
    "anchor_at": "2026-09-01T00:00:00Z",
    "trial_ends_at": "2026-09-15T00:00:00Z",
    "current_period": {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"},
    "next_period": {"start": "2026-12-01T00:00:00Z", "end": "2027-01-01T00:00:00Z"},
    "ends_at": None,
    "phases": [
        {"plan": "payg", "name": "Pay as you go", "version": 1, "starts_at": "2026-09-01T00:00:00Z"},
        {**VERSION, "starts_at": "2026-10-14T09:15:00Z"},
    ],
    "pauses": [],
    "coupons": [REDEMPTION],
}
OUTCOME = {
    "takes_effect_at": "2026-11-22T17:45:00Z",
    "total_exact": "31.2089961",
    "total_minor": 3121,
    "difference_minor": 1372,
    "lines": [LINE],
}
CHANGE_PREVIEW = {
    "currency": "USD",
    "period_start": "2026-11-01T00:00:00Z",
    "period_end": "2026-12-01T00:00:00Z",
    "unchanged_total_minor": 1749,
    "now": OUTCOME,
    "at_period_end": {
        **OUTCOME,
        "takes_effect_at": "2026-12-01T00:00:00Z",
        "total_exact": "66.4889961",
        "total_minor": 6649,
        "difference_minor": 4900,
    },
}
CANCEL_PREVIEW = {
    "currency": "USD",
    "now": {
        "ends_at": "2026-11-22T17:45:00Z",
        "total_exact": "-9.3243372",
        "total_minor": -932,
        "due_minor": 0,
        "returned_minor": 932,
        "lines": [
            {
                **LINE,
                "kind": "flat_fee",
                "description": "Base fee, returned",
                "meter": "",
                "model": "",
                "quantity": None,
                "included": None,
                "billable": None,
                "unit_price": None,
                "scale": None,
                "amount_exact": "-12.0333333",
                "amount_minor": -1203,
                "explanation": "Part of $49 that is not used",
                "price_ids": [],
            },
            LINE,
        ],
    },
    "at_period_end": {
        "ends_at": "2026-12-01T00:00:00Z",
        "total_exact": "2.7089961",
        "total_minor": 271,
        "due_minor": 271,
        "returned_minor": 0,
        "lines": [LINE],
    },
}
COUPON = {
    "id": "coup_7k2mcd4f9ghjk3npqrst",
    "code": "LAUNCH",
    "name": "Launch offer",
    "percent": "20",
    "amount": None,
    "currency": "",
    "duration": "periods",
    "periods": 3,
    "expires_at": "2026-12-31T23:00:00Z",
    "most_redemptions": 100,
    "most_per_organisation": 1,
    "redeemed": 17,
    "created_at": "2026-10-01T08:00:00Z",
    "archived_at": None,
}


class PeriodOutput(serializers.Serializer):
    start = serializers.DateTimeField()
    end = serializers.DateTimeField()


class VersionOutput(serializers.Serializer):
    plan = serializers.CharField(help_text="The plan's key.")
    name = serializers.CharField()
    version = serializers.IntegerField()


class PhaseOutput(VersionOutput):
    """A version of a plan, in force until the next phase begins. Phases that lie ahead are changes to come."""

    starts_at = serializers.DateTimeField()


class PauseOutput(serializers.Serializer):
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField(allow_null=True, help_text="Null until it is ended.")


class RedemptionOutput(serializers.Serializer):
    """A coupon on a subscription."""

    id = serializers.CharField()
    code = serializers.CharField()
    name = serializers.CharField(help_text="As it stands on the bill.")
    words = serializers.CharField(help_text="What it takes off.")
    redeemed_at = serializers.DateTimeField()
    starts_at = serializers.DateTimeField(help_text="Where the first period begins that it takes something off.")
    periods_left = serializers.IntegerField(
        allow_null=True, help_text="The running period included; 0: it has run out; null: it has no end."
    )
    withdrawn_at = serializers.DateTimeField(
        allow_null=True, help_text="Since when it is taken away: periods that begin later are charged in full."
    )


class SubscriptionOutput(VersionOutput):
    """`plan`, `name` and `version` are what holds now."""

    id = serializers.CharField()
    organisation = serializers.CharField()
    state = serializers.ChoiceField(choices=SubscriptionState.values)
    currency = serializers.CharField()
    cadence = serializers.CharField(help_text="How long a period is: `month`, `3 months`, `2 weeks`, `year`.")
    time_zone = serializers.CharField(help_text="By whose clock periods begin.")
    anchor_at = serializers.DateTimeField(help_text="Where the first period begins; all others follow from it.")
    trial_ends_at = serializers.DateTimeField(allow_null=True, help_text="Nothing is charged before it.")
    current_period = PeriodOutput(help_text="The running one, or the last one of a subscription that ended.")
    next_period = PeriodOutput(allow_null=True, help_text="Null where the subscription ends before it.")
    ends_at = serializers.DateTimeField(allow_null=True, help_text="Null unless cancelled.")
    phases = PhaseOutput(many=True)
    pauses = PauseOutput(many=True, help_text="In which nothing is charged.")
    coupons = RedemptionOutput(many=True)


class OutcomeOutput(serializers.Serializer):
    """The bill of the running period, had the plan changed."""

    takes_effect_at = serializers.DateTimeField()
    total_exact = PlainDecimal(source="bill.total_exact")
    total_minor = serializers.IntegerField(source="bill.total_minor")
    difference_minor = serializers.IntegerField(help_text="Against the bill without a change.")
    lines = LineOutput(many=True, source="bill.lines")


class ChangePreviewOutput(serializers.Serializer):
    currency = serializers.CharField(source="unchanged.currency")
    period_start = serializers.DateTimeField(source="unchanged.period.start")
    period_end = serializers.DateTimeField(source="unchanged.period.end")
    unchanged_total_minor = serializers.IntegerField(source="unchanged.total_minor")
    now = OutcomeOutput(source="at_once")
    at_period_end = OutcomeOutput()


class EndingOutput(serializers.Serializer):
    """The last bill with what was used until now, before credit."""

    ends_at = serializers.DateTimeField(help_text="Until when the subscription would go on.")
    total_exact = PlainDecimal(source="bill.total_exact")
    total_minor = serializers.IntegerField(source="bill.total_minor", help_text="Negative where it gives back.")
    due_minor = serializers.IntegerField(help_text="What it charges; credit pays it as far as it reaches.")
    returned_minor = serializers.IntegerField(
        help_text="What it gives back: kept as credit that pays further bills, or else is paid back."
    )
    lines = LineOutput(many=True, source="bill.lines")


class CancelPreviewOutput(serializers.Serializer):
    currency = serializers.CharField()
    now = EndingOutput(source="at_once", help_text="Ended at the next quarter hour.")
    at_period_end = EndingOutput(help_text="Ended with the running period, or with the trial that runs.")


class CouponOutput(serializers.Serializer):
    id = serializers.CharField(source="public_id")
    code = serializers.CharField(help_text="What customers type.")
    name = serializers.CharField(help_text="What stands on the bill.")
    percent = PlainDecimal(allow_null=True, help_text="20: twenty percent off.")
    amount = PlainDecimal(allow_null=True, help_text="Off each period, in the currency's major unit.")
    currency = serializers.CharField(help_text="Of the amount; empty for a percentage.")
    duration = serializers.ChoiceField(choices=CouponDuration.values)
    periods = serializers.IntegerField(allow_null=True, help_text="How many, where it is for a number of them.")
    expires_at = serializers.DateTimeField(allow_null=True, help_text="Until when it may be redeemed.")
    most_redemptions = serializers.IntegerField(allow_null=True, help_text="In all; null: no limit.")
    most_per_organisation = serializers.IntegerField()
    redeemed = serializers.IntegerField(help_text="How often it was.")
    created_at = serializers.DateTimeField()
    archived_at = serializers.DateTimeField(allow_null=True, help_text="Since when nobody can redeem it any more.")


class PlanInput(serializers.Serializer):
    plan = serializers.SlugField(max_length=63, help_text="Its key.")
    version = serializers.IntegerField(
        min_value=1, max_value=2**31 - 1, required=False, help_text="The newest published one unless given."
    )


class SubscriptionInput(PlanInput):
    anchor_at = serializers.DateTimeField(
        required=False,
        help_text="When the first period begins, a year back at most; the quarter hour that runs unless given.",
    )
    trial_days = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=MOST_TRIAL_DAYS,
        help_text="Unless given, the plan's own trial if the organisation has had none; 0: none.",
    )


class WhenInput(serializers.Serializer):
    when = serializers.ChoiceField(choices=WHEN, default="period_end")


class ChangeInput(PlanInput, WhenInput):
    """A change now holds from the quarter hour that runs."""


class PauseInput(serializers.Serializer):
    reason = serializers.CharField(
        max_length=200, default="", allow_blank=True, help_text="For operators; customers do not see it."
    )


class TrialInput(serializers.Serializer):
    ends_at = serializers.DateTimeField(help_text="From the quarter hour it lies in on, everything is charged.")


class NothingInput(serializers.Serializer):
    """No members."""


class RedemptionInput(serializers.Serializer):
    code = serializers.CharField(max_length=40)


class CouponChangeInput(serializers.Serializer):
    name = serializers.CharField(max_length=120, required=False)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)
    most_redemptions = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=2**31 - 1)
    most_per_organisation = serializers.IntegerField(required=False, min_value=1, max_value=2**15 - 1)


class CouponInput(CouponChangeInput):
    code = serializers.CharField(max_length=40, help_text="Letters, digits and dashes.")
    name = serializers.CharField(max_length=120)
    percent = serializers.DecimalField(max_digits=9, decimal_places=6, required=False, allow_null=True)
    amount = serializers.DecimalField(max_digits=20, decimal_places=6, required=False, allow_null=True)
    currency = serializers.CharField(max_length=3, required=False, allow_blank=True)
    duration = serializers.ChoiceField(choices=CouponDuration.values, default=CouponDuration.ONCE.value)
    periods = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=2**15 - 1)


IDEMPOTENCY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="Makes the request safe to send again: it is carried out once, and answered with how things stand.",
)
REFUSED = OpenApiResponse(description="Refused")
REFUSED_CHANGES = REFUSALS | {(status, CONTENT_TYPE): REFUSED for status in (409, 422)}
ONE_SUBSCRIPTION = OpenApiResponse(
    SubscriptionOutput, "The subscription", [OpenApiExample("A subscription", SUBSCRIPTION, response_only=True)]
)
ONE_COUPON = OpenApiResponse(CouponOutput, "The coupon", [OpenApiExample("A coupon", COUPON, response_only=True)])


def subscription_facts(subscription: Subscription, now: datetime) -> dict[str, Any]:
    """A subscription, read with `schedules.TERMS`, as SubscriptionOutput has it."""
    current = schedules.current_period(subscription, now)
    goes_on = schedules.goes_on_after(subscription, current)
    plain = ("currency", "cadence", "time_zone", "anchor_at", "trial_ends_at", "ends_at")
    return {
        "id": subscription.public_id,
        "organisation": subscription.organisation.public_id,
        "state": subscribing.state_at(subscription, now),
        **_version_facts(schedules.version_at(subscription, now)),
        **{name: getattr(subscription, name) for name in plain},
        "current_period": current,
        "next_period": schedules.period_after(subscription, current) if goes_on else None,
        "phases": [
            {**_version_facts(phase.plan_version), "starts_at": phase.starts_at}
            for phase in schedules.phases_of(subscription)
        ],
        "pauses": schedules.pauses_of(subscription),
        "coupons": [redemption_facts(row, subscription, current) for row in discounts.redemptions_of(subscription)],
    }


def redemption_facts(redemption: CouponRedemption, subscription: Subscription, period: Period) -> dict[str, Any]:
    coupon: Coupon = redemption.coupon
    ended = redemption.withdrawn_at is not None and period.start >= redemption.withdrawn_at
    return {
        "id": redemption.public_id,
        "code": coupon.code,
        "name": coupon.name,
        "words": discounts.words_of(coupon),
        "redeemed_at": redemption.redeemed_at,
        "starts_at": redemption.starts_at,
        "periods_left": 0 if ended else discounts.periods_left(redemption, subscription, period),
        "withdrawn_at": redemption.withdrawn_at,
    }


def _version_facts(version: PlanVersion) -> dict[str, Any]:
    return {"plan": version.plan.key, "name": version.plan.name, "version": version.number}
