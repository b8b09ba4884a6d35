"""Coupons: the operator's, so that only service tokens reach them. On whose bills they are, subscriptions say.

A code makes a coupon safe to send again: the same is answered with 200, another under the same code is refused.
"""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api_auth import caller_of
from accounts.api_bodies import validated
from accounts.api_pages import CursorPagination
from accounts.models import Scope
from accounts.problems import Problem
from billing import couponing
from billing.api.parts import REFUSALS, ForOperators
from billing.api.subscription_parts import (
    COUPON,
    ONE_COUPON,
    REFUSED_CHANGES,
    CouponChangeInput,
    CouponInput,
    CouponOutput,
)
from billing.models import Coupon


class CouponView(ForOperators, GenericAPIView):
    """What the views of coupons share."""

    only_operators = "Coupons belong to the operator: only a service token reaches them."
    queryset = Coupon.objects.none()
    serializer_class = CouponOutput

    def find(self, public_id: str) -> Coupon:
        coupon = Coupon.objects.filter(public_id=public_id).first()
        if coupon is None:
            raise Problem(404, "not_found", "There is no such coupon.")
        return coupon

    def save(self, request: Request, coupon: Coupon) -> Coupon:
        return couponing.save_coupon(coupon, actor=caller_of(request).label, request=request._request)


class Coupons(CouponView):
    required_scopes = {"GET": Scope.BILLING_READ, "POST": Scope.BILLING_WRITE}
    pagination_class = CursorPagination

    @extend_schema(
        operation_id="list_coupons",
        summary="List coupons",
        description="With a service token.",
        tags=["Coupons"],
        responses={200: OpenApiResponse(CouponOutput(many=True), "A page of coupons, newest first"), **REFUSALS},
        examples=[OpenApiExample("Coupons", COUPON, response_only=True, status_codes=["200"])],
    )
    def get(self, request: Request) -> Response:
        rows = self.paginate_queryset(Coupon.objects.all())
        return self.get_paginated_response(CouponOutput(rows, many=True).data)

    @extend_schema(
        operation_id="make_coupon",
        summary="Make a coupon",
        description="A percentage, or an amount per period with its currency; for one period, a number of them, or for "
        "ever. Sent again, the same is answered with 200 and changes nothing; another one under the same code is "
        "refused.",
        tags=["Coupons"],
        request=CouponInput,
        responses={201: ONE_COUPON, 200: ONE_COUPON, **REFUSED_CHANGES},
        examples=[
            OpenApiExample(
                "A fifth off three periods",
                {"code": "LAUNCH", "name": "Launch offer", "percent": "20", "duration": "periods", "periods": 3},
                request_only=True,
            )
        ],
    )
    def post(self, request: Request) -> Response:
        coupon, is_new = couponing.make_coupon(
            Coupon(**validated(CouponInput, request)), actor=caller_of(request).label, request=request._request
        )
        return Response(CouponOutput(coupon).data, status=201 if is_new else 200)


class OneCoupon(CouponView):
    required_scopes = {"GET": Scope.BILLING_READ, "PATCH": Scope.BILLING_WRITE}

    @extend_schema(
        operation_id="get_coupon", summary="Get a coupon", tags=["Coupons"], responses={200: ONE_COUPON, **REFUSALS}
    )
    def get(self, request: Request, coupon_id: str) -> Response:
        return Response(CouponOutput(self.find(coupon_id)).data)

    @extend_schema(
        operation_id="change_coupon",
        summary="Change a coupon",
        description="Its name, its expiry and its limits. What it takes off never changes.",
        tags=["Coupons"],
        request=CouponChangeInput,
        responses={200: ONE_COUPON, **REFUSED_CHANGES},
        examples=[OpenApiExample("Twice as many", {"most_redemptions": 200}, request_only=True)],
    )
    def patch(self, request: Request, coupon_id: str) -> Response:
        coupon = self.find(coupon_id)
        _set(coupon, validated(CouponChangeInput, request))
        return Response(CouponOutput(self.save(request, coupon)).data)


class CouponArchival(CouponView):
    required_scopes = {"POST": Scope.BILLING_WRITE}

    @extend_schema(
        operation_id="archive_coupon",
        summary="Archive a coupon",
        description="Nobody can redeem it any more; on whose bills it is, it stays. Archiving again changes nothing.",
        tags=["Coupons"],
        request=None,
        responses={200: ONE_COUPON, **REFUSALS},
    )
    def post(self, request: Request, coupon_id: str) -> Response:
        coupon = self.find(coupon_id)
        if coupon.archived_at is None:
            coupon.archived_at = timezone.now()
            coupon = self.save(request, coupon)
        return Response(CouponOutput(coupon).data)


def _set(coupon: Coupon, values: dict[str, Any]) -> None:
    for name, value in values.items():
        setattr(coupon, name, value)
