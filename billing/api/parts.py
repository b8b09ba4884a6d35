"""What billing's endpoints share: how a decimal is written, whose things are asked for, how requests are refused."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework import serializers

from accounts.problems import CONTENT_TYPE
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


class PlainDecimal(serializers.Field):
    """A decimal as text in full: every digit, no exponent."""

    def to_representation(self, value: Any) -> str:
        return format(plain(value), "f")
