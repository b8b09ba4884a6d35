"""What is done to a subscription, each act at an address of its own, with a service token of the operator's."""

from abc import ABC, abstractmethod
from datetime import datetime
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api_auth import caller_of, resolve_organisation
from accounts.api_bodies import validated
from accounts.api_pages import idempotency_key
from accounts.idempotency import perform_once
from accounts.models import Scope
from accounts.problems import Problem
from billing import couponing, resting, schedules, subscribing
from billing.api.parts import ORGANISATION
from billing.api.subscription_parts import (
    IDEMPOTENCY,
    ONE_SUBSCRIPTION,
    REDEMPTION,
    REFUSED_CHANGES,
    ChangeInput,
    NothingInput,
    PauseInput,
    RedemptionInput,
    RedemptionOutput,
    TrialInput,
    WhenInput,
    redemption_facts,
)
from billing.api.subscriptions import SubscriptionView, version_asked_for
from billing.models import CouponRedemption, Subscription


def _described(
    operation: str, summary: str, description: str, body: type[serializers.Serializer], example: dict[str, Any] | None
) -> Any:
    """An act as the API's description has it."""
    return extend_schema_view(
        post=extend_schema(
            operation_id=operation,
            summary=summary,
            description=description,
            tags=["Subscriptions"],
            parameters=[ORGANISATION, IDEMPOTENCY],
            request=None if body is NothingInput else body,
            responses={200: ONE_SUBSCRIPTION, **REFUSED_CHANGES},
            examples=[OpenApiExample("A request", example, request_only=True)] if example else None,
        )
    )


class Act(SubscriptionView, ABC):
    """An act on a subscription; the answer is the subscription as it then stands."""

    required_scopes = {"POST": Scope.BILLING_WRITE}
    body: type[serializers.Serializer] = NothingInput
    operation = ""

    @abstractmethod
    def perform(self, subscription: Subscription, wanted: dict[str, Any], *, now: datetime, **by: Any) -> Any:
        """Carry it out by the verb for it."""

    def post(self, request: Request, subscription_id: str) -> Response:
        organisation = resolve_organisation(request)
        subscription = self.find(organisation, subscription_id)
        wanted = validated(self.body, request)
        by = {"actor": caller_of(request).label, "request": request._request}
        perform_once(
            organisation,
            operation=self.operation,
            key=idempotency_key(request),
            asked={"subscription": subscription_id, **wanted},
            perform=lambda: self.perform(subscription, wanted, now=timezone.now(), **by),
            identify=lambda _: subscription_id,
        )
        return self.answer(self.find(organisation, subscription_id))


@_described(
    "change_plan",
    "Change the plan",
    "Now, which is from the quarter hour that runs, or at the end of the period, instead of any change to come. Fees "
    "are shared to the second, and each call is priced by the plan in force when it was made. Preview it first. A "
    "subscription that was to end goes on. Naming the version in force takes a coming change back.",
    ChangeInput,
    {"plan": "team", "when": "now"},
)
class PlanChange(Act):
    body = ChangeInput
    operation = "subscription.plan_changed"

    def perform(self, subscription: Subscription, wanted: dict[str, Any], *, now: datetime, **by: Any) -> Any:
        version = version_asked_for(self.request, subscription.organisation, wanted)
        return subscribing.change_plan(subscription, version, now=now, at_once=wanted["when"] == "now", **by)


@_described(
    "withdraw_plan_change", "Take a coming change of plan back", "The plan in force goes on.", NothingInput, None
)
class PlanChangeWithdrawal(Act):
    operation = "subscription.change_withdrawn"

    def perform(self, subscription: Subscription, wanted: dict[str, Any], *, now: datetime, **by: Any) -> Any:
        return subscribing.withdraw_change(subscription, now=now, **by)


@_described(
    "pause_subscription",
    "Pause a subscription",
    "Nothing is charged from the next quarter hour on, until it is resumed; gateways that ask are told to refuse. "
    "Periods go on by the anchor.",
    PauseInput,
    {"reason": "Asked for by the customer"},
)
class Pause(Act):
    body = PauseInput
    operation = "subscription.paused"

    def perform(self, subscription: Subscription, wanted: dict[str, Any], *, now: datetime, **by: Any) -> Any:
        return resting.pause(subscription, now=now, reason=wanted["reason"], **by)


@_described(
    "resume_subscription",
    "End a pause",
    "Everything is charged again from the quarter hour that runs.",
    NothingInput,
    None,
)
class Resumption(Act):
    operation = "subscription.pause_ended"

    def perform(self, subscription: Subscription, wanted: dict[str, Any], *, now: datetime, **by: Any) -> Any:
        return resting.end_pause(subscription, now=now, **by)


@_described(
    "cancel_subscription",
    "Cancel a subscription",
    "At the end of the period (of the trial, while one runs), or at the next quarter hour. What was used until then is "
    "billed; of a fee in advance the unused part is given back.",
    WhenInput,
    {"when": "period_end"},
)
class Cancellation(Act):
    body = WhenInput
    operation = "subscription.cancelled"

    def perform(self, subscription: Subscription, wanted: dict[str, Any], *, now: datetime, **by: Any) -> Any:
        return subscribing.cancel(subscription, now=now, at_once=wanted["when"] == "now", **by)


@_described(
    "reactivate_subscription",
    "Take a cancellation back",
    "Before it takes effect; start another subscription after it.",
    NothingInput,
    None,
)
class Reactivation(Act):
    operation = "subscription.resumed"

    def perform(self, subscription: Subscription, wanted: dict[str, Any], *, now: datetime, **by: Any) -> Any:
        return subscribing.resume(subscription, now=now, **by)


@_described(
    "move_trial_end",
    "Make a trial longer or shorter",
    "While it runs.",
    TrialInput,
    {"ends_at": "2026-12-15T00:00:00Z"},
)
class Trial(Act):
    body = TrialInput
    operation = "subscription.trial_moved"

    def perform(self, subscription: Subscription, wanted: dict[str, Any], *, now: datetime, **by: Any) -> Any:
        return resting.move_trial_end(subscription, ends_at=wanted["ends_at"], now=now, **by)


# By the last word of its address.
ACTS: dict[str, type[Act]] = {
    "change": PlanChange,
    "change-withdrawal": PlanChangeWithdrawal,
    "pause": Pause,
    "resume": Resumption,
    "cancel": Cancellation,
    "reactivate": Reactivation,
    "trial": Trial,
}
ONE_REDEMPTION = OpenApiResponse(
    RedemptionOutput, "The coupon on the subscription", [OpenApiExample("A coupon", REDEMPTION, response_only=True)]
)


class Redemptions(SubscriptionView):
    required_scopes = {"POST": Scope.BILLING_WRITE}
    serializer_class = RedemptionOutput

    @extend_schema(
        operation_id="redeem_coupon",
        summary="Redeem a coupon on a subscription",
        description="It comes off the bills from the running period on, in the order in which coupons were redeemed.",
        tags=["Coupons"],
        parameters=[ORGANISATION, IDEMPOTENCY],
        request=RedemptionInput,
        responses={201: ONE_REDEMPTION, 200: ONE_REDEMPTION, **REFUSED_CHANGES},
        examples=[OpenApiExample("A code", {"code": "LAUNCH"}, request_only=True)],
    )
    def post(self, request: Request, subscription_id: str) -> Response:
        organisation = resolve_organisation(request)
        subscription = self.find(organisation, subscription_id)
        wanted = validated(RedemptionInput, request)
        now, by = timezone.now(), caller_of(request).label
        done = perform_once(
            organisation,
            operation="coupon.redeemed",
            key=idempotency_key(request),
            asked={"subscription": subscription_id, **wanted},
            perform=lambda: couponing.redeem(subscription, wanted["code"], now=now, actor=by, request=request._request),
            identify=lambda redemption: redemption.public_id,
        )
        redemption = self.find_redemption(subscription, done.result_id)
        return self.answer_redemption(redemption, subscription, 201 if done.result else 200)

    def find_redemption(self, subscription: Subscription, public_id: str) -> CouponRedemption:
        rows = CouponRedemption.objects.for_organisation(subscription.organisation).select_related("coupon")
        redemption: CouponRedemption | None = rows.filter(subscription=subscription, public_id=public_id).first()
        if redemption is None:
            raise Problem(404, "not_found", "There is no such coupon on this subscription.")
        return redemption

    def answer_redemption(self, redemption: CouponRedemption, subscription: Subscription, status: int) -> Response:
        period = schedules.current_period(subscription, timezone.now())
        return Response(RedemptionOutput(redemption_facts(redemption, subscription, period)).data, status=status)


class RedemptionWithdrawal(Redemptions):
    required_scopes = {"DELETE": Scope.BILLING_WRITE}
    http_method_names = ["delete", "options"]

    @extend_schema(
        operation_id="withdraw_coupon",
        summary="Take a coupon off a subscription",
        description="The running period keeps it; those after it are charged in full.",
        tags=["Coupons"],
        parameters=[ORGANISATION],
        responses={200: ONE_REDEMPTION, **REFUSED_CHANGES},
    )
    def delete(self, request: Request, subscription_id: str, redemption_id: str) -> Response:
        organisation = resolve_organisation(request)
        subscription = self.find(organisation, subscription_id)
        redemption = self.find_redemption(subscription, redemption_id)
        couponing.withdraw_redemption(
            redemption, now=timezone.now(), actor=caller_of(request).label, request=request._request
        )
        return self.answer_redemption(self.find_redemption(subscription, redemption_id), subscription, 200)
