"""What billing's endpoints share: how a decimal is written, whose things are asked for, how requests are refused."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.api_auth import caller_of
from accounts.problems import CONTENT_TYPE, Problem
from billing.money import plain

ORGANISATION = OpenApiParameter(
    "organisation",
    str,
    description="Public id or slug. Required with a service token; not needed with an access token.",
)
IDEMPOTENCY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="Makes the request safe to send again: the answer names what the first one led to.",
)
REFUSED = OpenApiResponse(description="Refused")
REFUSALS = {(status, CONTENT_TYPE): REFUSED for status in (400, 401, 403, 404)}


class ForOperators(APIView):
    """Views of what is no customer's: access tokens are refused."""

    only_operators: str

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(request)
        if caller_of(request).organisation is not None:
            raise Problem(403, "service_token_required", self.only_operators)


class PlainDecimal(serializers.Field):
    """A decimal as text in full: every digit, no exponent."""

    def to_representation(self, value: Any) -> str:
        return format(plain(value), "f")
