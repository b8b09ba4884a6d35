"""Margins: what usage earned and cost, for the operator. Read only; a projection that is made every night."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Max
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api_auth import resolve_organisation
from accounts.models import Scope
from billing.api.parts import REFUSALS, ForOperators, PlainDecimal
from billing.margins import PriceChange, margins, totals
from billing.models import MarginDay

GROUPS = ("model", "organisation", "day")
DAYS = 30
MOST_DAYS = 400
# Of organisations there may be any number; those with the largest revenue come first.
MOST_ROWS = 1000
ROW = {
    "id": "gpt-4o",
    "name": "gpt-4o",
    "currency": "USD",
    "revenue": "1250.5",
    "cost": "900.25",
    "margin": "350.25",
    "margin_percent": "28",
    "is_cost_partial": False,
}
MARGINS = {
    "first_day": "2026-10-24",
    "last_day": "2026-11-22",
    "by": "model",
    "computed_at": "2026-11-22T02:40:00Z",
    "rows": [ROW],
    "left_out": 0,
    "totals": [{**ROW, "id": "", "name": "All"}],
}
PARAMETERS = [
    OpenApiParameter("organisation", str, description="Public id or slug of one; all of them unless given."),
    OpenApiParameter("by", str, enum=GROUPS, description="What rows are of; `model` unless given."),
    OpenApiParameter("first_day", str, description=f"{DAYS} days up to the last one unless given."),
    OpenApiParameter("last_day", str, description=f"Included; today unless given. At most {MOST_DAYS} days."),
    OpenApiParameter("percent", str, description="What if prices were this many percent higher, use staying the same."),
    OpenApiParameter("model", str, description="The model whose prices `percent` is about; all unless given."),
]


class MarginsInput(serializers.Serializer):
    by = serializers.ChoiceField(GROUPS, default="model")
    first_day = serializers.DateField(required=False)
    last_day = serializers.DateField(required=False)
    percent = serializers.DecimalField(6, 2, min_value=Decimal(-100), max_value=Decimal(1000), required=False)
    model = serializers.CharField(required=False, allow_blank=True, default="", max_length=200)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        last = attrs.setdefault("last_day", timezone.now().date())
        try:
            first = attrs.setdefault("first_day", last - timedelta(days=DAYS - 1))
        except OverflowError as error:
            raise serializers.ValidationError({"last_day": "So long ago there were no bills."}) from error
        if not 0 <= (last - first).days < MOST_DAYS:
            raise serializers.ValidationError({"first_day": f"It must be 1 to {MOST_DAYS} days up to the last one."})
        return attrs


class MarginOutput(serializers.Serializer):
    id = serializers.CharField(help_text="A model's name, an organisation's public id or a day; empty for fees.")
    name = serializers.CharField()
    currency = serializers.CharField()
    revenue = PlainDecimal(help_text="Exact, in the major unit; as it would be, where `percent` is given.")
    cost = PlainDecimal(help_text="What the provider charges.")
    margin = PlainDecimal(source="amount")
    margin_percent = PlainDecimal(source="percent", allow_null=True, help_text="Of the revenue; null without any.")
    is_cost_partial = serializers.BooleanField(help_text="Of some usage no cost is known: the margin is less.")


class MarginsOutput(serializers.Serializer):
    first_day = serializers.DateField()
    last_day = serializers.DateField()
    by = serializers.ChoiceField(GROUPS)
    computed_at = serializers.DateTimeField(allow_null=True, help_text="Made anew every night; null: never yet.")
    rows = MarginOutput(many=True, help_text="Largest revenue first; days in order.")
    left_out = serializers.IntegerField(help_text=f"Rows beyond the first {MOST_ROWS}; they are in the totals.")
    totals = MarginOutput(many=True, help_text="One for each currency.")


class Margins(ForOperators):
    required_scopes = Scope.BILLING_READ
    only_operators = "Margins are the operator's: only a service token reaches them."

    @extend_schema(
        operation_id="get_margins",
        summary="What usage earns and costs",
        description="By model, organisation or day. With a service token.",
        tags=["Billing"],
        parameters=PARAMETERS,
        responses={
            200: OpenApiResponse(MarginsOutput, "Margins", [OpenApiExample("By model", MARGINS, response_only=True)]),
            **REFUSALS,
        },
    )
    def get(self, request: Request) -> Response:
        filled = MarginsInput(data=request.query_params)
        filled.is_valid(raise_exception=True)
        asked = filled.validated_data
        named = request.query_params.get("organisation")
        rows = margins(
            asked["first_day"],
            asked["last_day"],
            by=asked["by"],
            change=PriceChange(asked["percent"], asked["model"]) if "percent" in asked else None,
            organisation=resolve_organisation(request) if named else None,
        )
        facts = {
            **{name: asked[name] for name in ("first_day", "last_day", "by")},
            "computed_at": MarginDay.objects.aggregate(at=Max("computed_at"))["at"],
            "rows": rows[:MOST_ROWS],
            "left_out": max(0, len(rows) - MOST_ROWS),
            "totals": totals(rows),
        }
        return Response(MarginsOutput(facts).data)
