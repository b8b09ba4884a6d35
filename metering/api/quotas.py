"""/v1/quotas: limits with what is used and held of each; set, changed and lifted.

A service token sets what the operator sets. An access token sets limits of the customer's own, which can only narrow
what the operator or the plan allows, and changes none but those.
"""

from decimal import Decimal
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api_auth import caller_of, resolve_organisation
from accounts.api_bodies import validated
from accounts.models import ApiKey, Organisation, Project, Scope
from accounts.problems import Problem
from metering import quotas
from metering.api.meter_parts import REFUSALS, REFUSED_CHANGES
from metering.exact import EXACT, exact_text
from metering.limits_page import LimitRow, limit_rows
from metering.models import Enforcement, Measure, Quota, QuotaScope, SetBy, Window
from metering.quotas import QuotaSpec

QUOTA = {
    "id": "quota_7k2mcd4f9ghjk3npqrst",
    "measure": "meter",
    "meter": "output_tokens",
    "currency": "",
    "scope": "api_key",
    "project": None,
    "api_key": "key_7k2mcd4f9ghjk3npqrst",
    "end_user": "",
    "window": "day",
    "models": ["gpt-5*"],
    "amount": "1000000",
    "amount_now": "1500000",
    "raised_until": "2026-11-30T23:00:00Z",
    "enforcement": "hard",
    "thresholds": [80, 100],
    "set_by": "customer",
    "resets_at": "2026-11-22T23:00:00Z",
    "counters": [{"end_user": "", "used": "15200", "held": "4000", "remaining": "1480800"}],
}
AMOUNT_HELP = "In the meter's unit, in calls, or in the currency's major unit."


class CounterOutput(serializers.Serializer):
    end_user = serializers.CharField(help_text="Empty unless each end user has a counter.")
    used = serializers.CharField()
    held = serializers.CharField(help_text="For calls that still run.")
    remaining = serializers.CharField()


class QuotaOutput(serializers.Serializer):
    id = serializers.CharField()
    measure = serializers.ChoiceField(choices=Measure.values)
    meter = serializers.CharField()
    currency = serializers.CharField()
    scope = serializers.ChoiceField(choices=QuotaScope.values)
    project = serializers.CharField(allow_null=True)
    api_key = serializers.CharField(allow_null=True)
    end_user = serializers.CharField()
    window = serializers.ChoiceField(choices=Window.values)
    models = serializers.ListField(child=serializers.CharField())
    amount = serializers.CharField(help_text=AMOUNT_HELP)
    amount_now = serializers.CharField(help_text="With what was added to it for a time.")
    raised_until = serializers.DateTimeField(allow_null=True)
    enforcement = serializers.ChoiceField(choices=Enforcement.values)
    thresholds = serializers.ListField(child=serializers.IntegerField(), help_text="Percent.")
    set_by = serializers.ChoiceField(choices=SetBy.values)
    resets_at = serializers.DateTimeField(allow_null=True)
    counters = CounterOutput(many=True, help_text="Of the running window; the fullest few where end users count apart.")


class QuotasOutput(serializers.Serializer):
    quotas = QuotaOutput(many=True)


class QuotaChangeInput(serializers.Serializer):
    amount = serializers.DecimalField(max_digits=40, decimal_places=12, min_value=0, required=False)
    enforcement = serializers.ChoiceField(choices=Enforcement.values, required=False)
    thresholds = serializers.ListField(child=serializers.IntegerField(), max_length=10, required=False)


class QuotaInput(QuotaChangeInput):
    measure = serializers.ChoiceField(choices=Measure.values)
    meter = serializers.CharField(default="", allow_blank=True, help_text="Its key, where a meter is the measure.")
    currency = serializers.CharField(default="", allow_blank=True, max_length=3, help_text="Of spend.")
    scope = serializers.ChoiceField(choices=QuotaScope.values, default=QuotaScope.ORGANISATION.value)
    project = serializers.CharField(default="", allow_blank=True, help_text="Public id, where a project is the scope.")
    api_key = serializers.CharField(default="", allow_blank=True, help_text="Public id, where a key is the scope.")
    end_user = serializers.CharField(
        default="", allow_blank=True, max_length=200, help_text="Empty: each end user by themselves."
    )
    window = serializers.ChoiceField(choices=Window.values)
    models = serializers.ListField(child=serializers.CharField(), default=list, help_text="Patterns; empty: all.")
    amount = serializers.DecimalField(max_digits=40, decimal_places=12, min_value=0, help_text=AMOUNT_HELP)


class IncreaseInput(serializers.Serializer):
    amount = serializers.DecimalField(
        max_digits=40, decimal_places=12, min_value=0, help_text="What is added to the limit."
    )
    starts_at = serializers.DateTimeField(required=False, help_text="Now unless given.")
    ends_at = serializers.DateTimeField()
    reason = serializers.CharField(default="", allow_blank=True, max_length=300)


ORGANISATION = OpenApiParameter(
    "organisation",
    str,
    description="Public id or slug. Required with a service token; not needed with an access token.",
)
ONE = OpenApiResponse(QuotaOutput, "The limit", [OpenApiExample("A limit", QUOTA)])


class Quotas(APIView):
    required_scopes = {"GET": Scope.USAGE_READ, "POST": Scope.LIMITS_WRITE}

    @extend_schema(
        operation_id="list_quotas",
        summary="List limits with what is used and held",
        tags=["Limits"],
        parameters=[ORGANISATION],
        responses={
            200: OpenApiResponse(QuotasOutput, "All limits in force", [OpenApiExample("Limits", {"quotas": [QUOTA]})]),
            **REFUSALS,
        },
    )
    def get(self, request: Request) -> Response:
        organisation = resolve_organisation(request)
        return Response({"quotas": _bodies(organisation, limit_rows(organisation, timezone.now()))})

    @extend_schema(
        operation_id="set_quota",
        summary="Set a limit",
        tags=["Limits"],
        parameters=[ORGANISATION],
        request=QuotaInput,
        responses={201: ONE, **REFUSED_CHANGES},
        description="It holds from the next call on, and begins with what its running window has used already.",
    )
    def post(self, request: Request) -> Response:
        organisation = resolve_organisation(request)
        asked = validated(QuotaInput, request)
        quota = quotas.define_quota(
            organisation,
            _spec(organisation, asked),
            set_by=SetBy.CUSTOMER if _is_customer(request) else SetBy.OPERATOR,
            now=timezone.now(),
            actor=caller_of(request).label,
            request=request._request,
        )
        return Response(_body_of(organisation, quota), status=201)


class OneQuota(APIView):
    required_scopes = {"PATCH": Scope.LIMITS_WRITE, "DELETE": Scope.LIMITS_WRITE}

    @extend_schema(
        operation_id="change_quota",
        summary="Change a limit",
        tags=["Limits"],
        parameters=[ORGANISATION],
        request=QuotaChangeInput,
        responses={200: ONE, **REFUSED_CHANGES},
        description="What a limit counts never changes; set another one for that.",
    )
    def patch(self, request: Request, quota_id: str) -> Response:
        organisation = resolve_organisation(request)
        changes = validated(QuotaChangeInput, request)
        quota = quotas.change_quota(
            _found(organisation, quota_id),
            by_customer=_is_customer(request),
            actor=caller_of(request).label,
            request=request._request,
            **changes,
        )
        return Response(_body_of(organisation, quota))

    @extend_schema(
        operation_id="lift_quota",
        summary="Lift a limit",
        tags=["Limits"],
        parameters=[ORGANISATION],
        responses={204: None, **REFUSED_CHANGES},
    )
    def delete(self, request: Request, quota_id: str) -> Response:
        organisation = resolve_organisation(request)
        quotas.archive_quota(
            _found(organisation, quota_id),
            by_customer=_is_customer(request),
            now=timezone.now(),
            actor=caller_of(request).label,
            request=request._request,
        )
        return Response(status=204)


class QuotaIncreases(APIView):
    required_scopes = {"POST": Scope.LIMITS_WRITE}

    @extend_schema(
        operation_id="increase_quota",
        summary="Allow more for a while",
        tags=["Limits"],
        parameters=[ORGANISATION],
        request=IncreaseInput,
        responses={201: ONE, **REFUSED_CHANGES},
        description="For operators, with a service token. What it adds ends by itself.",
    )
    def post(self, request: Request, quota_id: str) -> Response:
        organisation = resolve_organisation(request)
        quota = _found(organisation, quota_id)
        if _is_customer(request):
            raise Problem(403, "service_token_required", "Limits are raised with a service token of the operator.")
        asked = validated(IncreaseInput, request)
        quotas.add_increase(
            quota,
            asked["amount"],
            starts_at=asked.get("starts_at") or timezone.now(),
            ends_at=asked["ends_at"],
            reason=asked["reason"],
            actor=caller_of(request).label,
            request=request._request,
        )
        return Response(_body_of(organisation, quota), status=201)


def _is_customer(request: Request) -> bool:
    return caller_of(request).organisation is not None


def _found(organisation: Organisation, quota_id: str) -> Quota:
    quota = Quota.objects.for_organisation(organisation).active().filter(public_id=quota_id).first()
    if quota is None:
        raise Problem(404, "not_found", "There is no such limit.")
    return quota


def _spec(organisation: Organisation, asked: dict[str, Any]) -> QuotaSpec:
    scope = asked["scope"]
    project = api_key = None
    if scope == QuotaScope.PROJECT:
        project = Project.objects.for_organisation(organisation).filter(public_id=asked["project"]).first()
    if scope == QuotaScope.API_KEY:
        api_key = ApiKey.objects.for_organisation(organisation).filter(public_id=asked["api_key"]).first()
    if (scope == QuotaScope.PROJECT and project is None) or (scope == QuotaScope.API_KEY and api_key is None):
        raise Problem(422, "unknown_scope", "Name the project or the API key of this organisation that is limited.")
    chosen: dict[str, Any] = {
        name: asked[name] for name in ("enforcement", "window", "measure", "scope", "amount") if name in asked
    }
    if "thresholds" in asked:
        chosen["thresholds"] = tuple(asked["thresholds"])
    return QuotaSpec(
        **chosen,
        meter_key=asked["meter"],
        currency=asked["currency"].upper(),
        models=tuple(asked["models"]),
        project=project,
        api_key=api_key,
        end_user=asked["end_user"] if scope == QuotaScope.END_USER else "",
    )


def _body_of(organisation: Organisation, quota: Quota) -> dict[str, Any]:
    rows = [row for row in limit_rows(organisation, timezone.now()) if row.quota.pk == quota.pk]
    return _bodies(organisation, rows)[0]


def _bodies(organisation: Organisation, rows: list[LimitRow]) -> list[dict[str, Any]]:
    projects = dict(Project.objects.for_organisation(organisation).values_list("pk", "public_id"))
    keys = dict(
        ApiKey.objects.for_organisation(organisation)
        .filter(pk__in=[row.quota.api_key_id for row in rows if row.quota.api_key_id])
        .values_list("pk", "public_id")
    )
    return [_body(row, projects, keys) for row in rows]


def _body(row: LimitRow, projects: dict[int, str], keys: dict[int, str]) -> dict[str, Any]:
    quota = row.quota
    return {
        "id": quota.public_id,
        "measure": quota.measure,
        "meter": quota.meter.key if quota.meter else "",
        "currency": quota.currency,
        "scope": quota.scope,
        "project": projects.get(quota.project_id or 0),
        "api_key": keys.get(quota.api_key_id or 0),
        "end_user": quota.end_user,
        "window": quota.window,
        "models": quota.model_patterns,
        "amount": _plain(quota.amount),
        "amount_now": _plain(row.amount),
        "raised_until": row.raised_until,
        "enforcement": quota.enforcement,
        "thresholds": quota.thresholds,
        "set_by": quota.set_by,
        "resets_at": row.resets_at,
        "counters": [
            {
                "end_user": counter.subject,
                "used": _plain(counter.used),
                "held": _plain(counter.held),
                "remaining": _plain(max(Decimal(0), EXACT.subtract(row.amount, counter.taken))),
            }
            for counter in row.counters
        ],
    }


def _plain(amount: Decimal) -> str:
    """Every digit that says something: 100.000000000000 -> 100."""
    text = exact_text(amount)
    return text.rstrip("0").rstrip(".") if "." in text else text
