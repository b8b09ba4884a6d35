"""What the endpoints of accounts share: whose things are asked for, how requests are refused."""

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse
from rest_framework import serializers

from accounts.problems import CONTENT_TYPE

PROBLEM = {
    "type": "about:blank",
    "title": "Forbidden",
    "status": 403,
    "detail": "This token lacks the scope keys:write.",
    "code": "missing_scope",
    "required_scope": "keys:write",
}

ORGANISATION = OpenApiParameter(
    "organisation",
    str,
    description="Public id or slug. Required with a service token; not needed with an access token.",
)
IDEMPOTENCY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="Makes the request safe to send again: the answer names the same key, without its secret.",
)


class ProblemOutput(serializers.Serializer):
    """application/problem+json."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.CharField(help_text="Stable; compare this one.")


REFUSED = OpenApiResponse(ProblemOutput, "Refused", [OpenApiExample("Refused", PROBLEM, media_type=CONTENT_TYPE)])
REFUSALS = {(status, CONTENT_TYPE): REFUSED for status in (400, 401, 403, 404)}
