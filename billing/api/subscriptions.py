"""Subscriptions: read by whoever may read bills, started and changed with a service token of the operator's.

What a change costs can be asked before, by customers too. A request with an Idempotency-Key is carried out once; sent
again, it is answered with the subscription as it stands.
"""

from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api_auth import caller_of, resolve_organisation
from accounts.api_bodies import validated
from accounts.api_pages import CursorPagination, idempotency_key
from accounts.idempotency import perform_once
from accounts.models import Organisation, Scope
from accounts.problems import Problem
from billing import change_previews, schedules, subscribing
from billing.api.bills import line_context
from billing.api.parts import ORGANISATION, REFUSALS
from billing.api.subscription_parts import (
    CANCEL_PREVIEW,
    CHANGE_PREVIEW,
    IDEMPOTENCY,
    ONE_SUBSCRIPTION,
    REFUSED_CHANGES,
    SUBSCRIPTION,
    CancelPreviewOutput,
    ChangePreviewOutput,
    PlanInput,
    SubscriptionInput,
    SubscriptionOutput,
    subscription_facts,
)
from billing.models import Plan, PlanVersion, Subscription

EARLIEST_ANCHOR = timedelta(days=366)


class SubscriptionView(GenericAPIView):
    """What the views of subscriptions share."""

    queryset = Subscription.objects.none()
    serializer_class: type[serializers.Serializer] = SubscriptionOutput

    def subscriptions_of(self, organisation: Organisation) -> QuerySet[Subscription]:
        rows = Subscription.objects.for_organisation(organisation).select_related("organisation")
        return rows.prefetch_related(*schedules.TERMS)

    def find(self, organisation: Organisation, public_id: str) -> Subscription:
        subscription = self.subscriptions_of(organisation).filter(public_id=public_id).first()
        if subscription is None:
            raise Problem(404, "not_found", "There is no such subscription.")
        return subscription

    def answer(self, subscription: Subscription, status: int = 200) -> Response:
        facts = subscription_facts(subscription, timezone.now())
        return Response(SubscriptionOutput(facts).data, status=status)


class Subscriptions(SubscriptionView):
    required_scopes = {"GET": Scope.BILLING_READ, "POST": Scope.BILLING_WRITE}
    pagination_class = CursorPagination

    @extend_schema(
        operation_id="list_subscriptions",
        summary="List subscriptions",
        description="One at most is not `cancelled`.",
        tags=["Subscriptions"],
        parameters=[ORGANISATION],
        responses={200: OpenApiResponse(SubscriptionOutput(many=True), "A page, newest first"), **REFUSALS},
        examples=[OpenApiExample("Subscriptions", SUBSCRIPTION, response_only=True, status_codes=["200"])],
    )
    def get(self, request: Request) -> Response:
        now = timezone.now()
        rows = self.paginate_queryset(self.subscriptions_of(resolve_organisation(request)))
        facts = [subscription_facts(row, now) for row in rows or ()]
        return self.get_paginated_response(SubscriptionOutput(facts, many=True).data)

    @extend_schema(
        operation_id="start_subscription",
        summary="Put an organisation on a plan",
        tags=["Subscriptions"],
        parameters=[ORGANISATION, IDEMPOTENCY],
        request=SubscriptionInput,
        responses={201: ONE_SUBSCRIPTION, 200: ONE_SUBSCRIPTION, **REFUSED_CHANGES},
        examples=[OpenApiExample("Two weeks on trial", {"plan": "team", "trial_days": 14}, request_only=True)],
    )
    def post(self, request: Request) -> Response:
        organisation = resolve_organisation(request)
        wanted = validated(SubscriptionInput, request)
        done = perform_once(
            organisation,
            operation="subscription.started",
            key=idempotency_key(request),
            asked=wanted,
            perform=lambda: _start(request, organisation, wanted),
            identify=lambda subscription: subscription.public_id,
        )
        return self.answer(self.find(organisation, done.result_id), 201 if done.result else 200)


class OneSubscription(SubscriptionView):
    required_scopes = Scope.BILLING_READ

    @extend_schema(
        operation_id="get_subscription",
        summary="Get a subscription",
        description="With its phases, trial, pauses and coupons, and the periods that run and follow.",
        tags=["Subscriptions"],
        parameters=[ORGANISATION],
        responses={200: ONE_SUBSCRIPTION, **REFUSALS},
    )
    def get(self, request: Request, public_id: str) -> Response:
        return self.answer(self.find(resolve_organisation(request), public_id))


class ChangePreview(SubscriptionView):
    # Changes nothing, so that customers may ask too: about the plans that they could choose.
    required_scopes = {"POST": Scope.BILLING_READ}
    serializer_class = ChangePreviewOutput

    @extend_schema(
        operation_id="preview_plan_change",
        summary="What a change of plan would cost",
        description="The running bill without the change, with it now, and with it at the end of the period, by the "
        "formula of the invoices. Changes nothing.",
        tags=["Subscriptions"],
        parameters=[ORGANISATION],
        request=PlanInput,
        responses={
            200: OpenApiResponse(
                ChangePreviewOutput,
                "What it would cost",
                [OpenApiExample("To a plan with a fee", CHANGE_PREVIEW, response_only=True)],
            ),
            **REFUSED_CHANGES,
        },
        examples=[OpenApiExample("Another plan", {"plan": "team"}, request_only=True)],
    )
    def post(self, request: Request, subscription_id: str) -> Response:
        organisation = resolve_organisation(request)
        subscription = self.find(organisation, subscription_id)
        version = version_asked_for(request, organisation, validated(PlanInput, request))
        preview = change_previews.preview_change(subscription, version, timezone.now())
        return Response(ChangePreviewOutput(preview, context=line_context(organisation)).data)


class CancelPreview(SubscriptionView):
    required_scopes = {"POST": Scope.BILLING_READ}
    serializer_class = CancelPreviewOutput

    @extend_schema(
        operation_id="preview_cancellation",
        summary="What cancelling would cost or give back",
        description="The last bill if the subscription ended now, and if it ended with its period: until when it goes "
        "on, what is owed then and what of fees paid in advance comes back. By the formula of the invoices, with what "
        "was used until now. Changes nothing.",
        tags=["Subscriptions"],
        parameters=[ORGANISATION],
        request=None,
        responses={
            200: OpenApiResponse(
                CancelPreviewOutput,
                "The last bill of either",
                [OpenApiExample("A fee paid in advance", CANCEL_PREVIEW, response_only=True)],
            ),
            **REFUSED_CHANGES,
        },
    )
    def post(self, request: Request, subscription_id: str) -> Response:
        organisation = resolve_organisation(request)
        preview = change_previews.preview_cancellation(self.find(organisation, subscription_id), timezone.now())
        return Response(CancelPreviewOutput(preview, context=line_context(organisation)).data)


def version_asked_for(request: Request, organisation: Organisation, wanted: dict[str, Any]) -> PlanVersion:
    """The version that a request names, or the newest of the plan: what an operator may give, and a customer choose."""
    versions = PlanVersion.objects.to_give(organisation).filter(plan__key=wanted["plan"])
    if caller_of(request).organisation is not None:
        versions = versions.filter(plan__in=Plan.objects.on_offer(organisation))
    if "version" in wanted:
        versions = versions.filter(number=wanted["version"])
    version = versions.order_by("-number").first()
    if version is None:
        raise Problem(422, "unknown_plan", "There is no published plan with this key and version for the organisation.")
    return version


def _start(request: Request, organisation: Organisation, wanted: dict[str, Any]) -> Subscription:
    now, anchor = timezone.now(), wanted.get("anchor_at")
    if anchor is not None and anchor < now - EARLIEST_ANCHOR:
        raise Problem(422, "anchor_too_early", "A subscription begins a year back at the earliest.")
    return subscribing.subscribe(
        organisation,
        version_asked_for(request, organisation, wanted),
        now=now,
        anchor=anchor,
        trial_days=wanted.get("trial_days"),
        actor=caller_of(request).label,
        request=request._request,
    )
