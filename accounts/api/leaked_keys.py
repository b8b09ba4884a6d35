"""Reports of leaked secrets, in the form of GitHub's secret scanning partner program. Needs no token.

Whoever presents a whole secret has shown that it leaked, so that no signature is asked for: a signature would say who
found it, and the secret has to end whoever did.
"""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import rate_limits
from accounts.api.parts import REFUSED
from accounts.credentials import digest_of
from accounts.leaked_keys import LONGEST_SECRET, MOST_REPORTS, LeakedSecret, report_leaked
from accounts.problems import CONTENT_TYPE, Problem

FOUND = {
    "token": "sk-kt-9f2aQm…",
    "type": "kilotoken_api_key",
    "url": "https://github.com/example/repository/blob/main/.env",
    "source": "content",
}
ANSWER = {
    "token_hash": "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8",
    "token_type": "kilotoken_api_key",
    "label": "true_positive",
}
LABELS = {True: "true_positive", False: "false_positive"}


class LeakedKeyInput(serializers.Serializer):
    token = serializers.CharField(max_length=LONGEST_SECRET, help_text="The whole secret as it was found.")
    type = serializers.CharField(max_length=100, required=False, default="", allow_blank=True)
    url = serializers.CharField(
        max_length=2000, required=False, default="", allow_blank=True, help_text="Where; its owners are told."
    )


class LeakedKeyOutput(serializers.Serializer):
    token_hash = serializers.CharField(help_text="SHA-256 of the token in hexadecimal.")
    token_type = serializers.CharField(help_text="As it was sent.")
    label = serializers.ChoiceField(choices=list(LABELS.values()))  # type: ignore[assignment]


class LeakedKeys(APIView):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    @extend_schema(
        operation_id="report_leaked_keys",
        summary="Report leaked keys",
        description="For anybody who found API keys or tokens. Those that are ours are revoked at once and their "
        f"owners told. Send one object, a list of at most {MOST_REPORTS}, or "
        '`{"tokens": […]}`; the answer says of each in order whether it is ours.',
        tags=["Leaked keys"],
        auth=[],
        request=LeakedKeyInput(many=True),
        responses={
            200: OpenApiResponse(LeakedKeyOutput(many=True), "What each is", [OpenApiExample("Ours", ANSWER)]),
            (400, CONTENT_TYPE): REFUSED,
            (429, CONTENT_TYPE): REFUSED,
        },
        examples=[OpenApiExample("One, found in a repository", FOUND, request_only=True)],
    )
    def post(self, request: Request) -> Response:
        _refuse_too_many(request)
        reports = _reports(request.data)
        found = [LeakedSecret(report["token"], report["url"]) for report in reports]
        answers = report_leaked(found, now=timezone.now(), request=request._request)
        said = [
            {"token_hash": digest_of(report["token"]), "token_type": report["type"], "label": LABELS[is_ours]}
            for report, is_ours in zip(reports, answers, strict=True)
        ]
        response = Response(LeakedKeyOutput(said, many=True).data)
        response["Cache-Control"] = "no-store"
        return response


def _reports(sent: Any) -> list[dict[str, Any]]:
    if isinstance(sent, dict):
        sent = sent.get("tokens", [sent])
    if isinstance(sent, list) and len(sent) > MOST_REPORTS:
        raise Problem(400, "too_many_tokens", f"Send at most {MOST_REPORTS} tokens at once.")
    reports = LeakedKeyInput(data=sent, many=True, allow_empty=False)
    reports.is_valid(raise_exception=True)
    return reports.validated_data


def _refuse_too_many(request: Request) -> None:
    now = timezone.now()
    if rate_limits.is_within(rate_limits.LEAKED_KEYS, request._request, now):
        return
    refusal = Problem(429, "too_many_requests", "Too many reports came from your address. Wait a minute.")
    refusal.wait = rate_limits.wait_of(rate_limits.LEAKED_KEYS, now)  # type: ignore[attr-defined]
    raise refusal
