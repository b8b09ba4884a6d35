"""Tariff comparison: the last months on every plan, or with one model in place of another. Read only."""

from decimal import Decimal, InvalidOperation
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api_auth import resolve_organisation
from accounts.models import Scope
from accounts.problems import Problem
from billing.api.parts import ORGANISATION, REFUSALS, PlainDecimal
from billing.tariff_comparison import (
    FEWEST_TOKENS,
    MOST_MONTHS,
    MOST_TOKENS,
    Comparison,
    ModelNotUsed,
    Substitution,
    Tariff,
    compare_tariffs,
)

TARIFF = {
    "plan": "team",
    "name": "Team",
    "version": 2,
    "is_current": False,
    "total_minor": 9870,
    "least_minor": 9870,
    "most_minor": 9870,
    "saving_minor": 1230,
    "months": [{"start": "2026-10-01T00:00:00Z", "end": "2026-11-01T00:00:00Z", "total_minor": 9870}],
    "unpriced": [],
}
COMPARISON = {
    "currency": "USD",
    "substitution": None,
    "current_total_minor": 11100,
    "tariffs": [TARIFF],
    "left_out": ["enterprise-yearly"],
}
PARAMETERS = [
    ORGANISATION,
    OpenApiParameter("months", int, description=f"How many whole months back, 1 to {MOST_MONTHS}; 3 unless given."),
    OpenApiParameter("model", str, description="A model that was used, to be replaced by `instead`."),
    OpenApiParameter("instead", str, description="The model to put in its place."),
    OpenApiParameter(
        "fewest_tokens",
        str,
        description=f"How many of its tokens one token of `model` is at least; {FEWEST_TOKENS} unless given.",
    ),
    OpenApiParameter("most_tokens", str, description=f"The same at most; {MOST_TOKENS} unless given."),
]


class MonthOutput(serializers.Serializer):
    start = serializers.DateTimeField(source="period.start")
    end = serializers.DateTimeField(source="period.end")
    total_minor = serializers.IntegerField()


class UnpricedOutput(serializers.Serializer):
    meter = serializers.CharField()
    model = serializers.CharField()
    quantity = PlainDecimal()


class TariffOutput(serializers.Serializer):
    plan = serializers.CharField(source="offer.plan.key")
    name = serializers.CharField(source="offer.plan.name")
    version = serializers.IntegerField(source="offer.version.number")
    is_current = serializers.BooleanField()
    total_minor = serializers.IntegerField()
    least_minor = serializers.IntegerField(help_text="With the fewest tokens that another model may need.")
    most_minor = serializers.IntegerField(help_text="With the most tokens that another model may need.")
    saving_minor = serializers.SerializerMethodField(
        help_text="Against the plan in force with the models as they were; negative: it costs more; null: no plan."
    )
    months = MonthOutput(many=True)
    unpriced = UnpricedOutput(many=True, help_text="Usage without a price on this plan: not in the totals.")

    def get_saving_minor(self, tariff: Tariff) -> int | None:
        comparison: Comparison = self.context["comparison"]
        return comparison.saving_minor(tariff)


class SubstitutionOutput(serializers.Serializer):
    model = serializers.CharField()
    by = serializers.CharField()
    fewest = PlainDecimal()
    most = PlainDecimal()


class ComparisonOutput(serializers.Serializer):
    currency = serializers.CharField()
    substitution = SubstitutionOutput(allow_null=True)
    current_total_minor = serializers.IntegerField(allow_null=True, help_text="Null without a plan.")
    tariffs = TariffOutput(many=True, help_text="Cheapest first.")
    left_out = serializers.ListField(
        child=serializers.CharField(), help_text="Plans in another currency or rhythm, which cannot be compared."
    )


class TariffComparison(APIView):
    required_scopes = Scope.BILLING_READ

    @extend_schema(
        operation_id="compare_tariffs",
        summary="Compare plans, or models, on past usage",
        description="Rates the last whole months on every public plan in the organisation's currency, by the formula "
        "of the invoices and at the prices of the time. With `model` and `instead`, one model takes another's place; "
        "the totals are then a range, since models cut the same text into different numbers of tokens.",
        tags=["Billing"],
        parameters=PARAMETERS,
        responses={
            200: OpenApiResponse(
                ComparisonOutput, "The comparison", [OpenApiExample("Two plans", COMPARISON, response_only=True)]
            ),
            **REFUSALS,
        },
    )
    def get(self, request: Request) -> Response:
        organisation = resolve_organisation(request)
        asked = request.query_params
        try:
            comparison = compare_tariffs(
                organisation, months=_months(asked), now=timezone.now(), substitution=_substitution(asked)
            )
        except ModelNotUsed as error:
            raise Problem(400, error.code, error.sentence) from error
        baseline = comparison.baseline
        facts = {
            "currency": comparison.currency,
            "substitution": comparison.substitution,
            "current_total_minor": None if baseline is None else baseline.total_minor,
            "tariffs": comparison.tariffs,
            "left_out": [offer.plan.key for offer in comparison.left_out],
        }
        return Response(ComparisonOutput(facts, context={"comparison": comparison}).data)


def _months(asked: Any) -> int:
    text = asked.get("months", "3")
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:4]) <= MOST_MONTHS):
        raise Problem(400, "invalid_months", f"Give `months` as a whole number from 1 to {MOST_MONTHS}.")
    return int(text)


def _substitution(asked: Any) -> Substitution | None:
    model, instead = (asked.get(name, "").replace("\x00", "") for name in ("model", "instead"))
    if not model and not instead:
        return None
    if not (model and instead):
        raise Problem(400, "incomplete_substitution", "Give both `model` and `instead`, or neither.")
    fewest, most = _factor(asked, "fewest_tokens", FEWEST_TOKENS), _factor(asked, "most_tokens", MOST_TOKENS)
    if fewest > most:
        raise Problem(400, "invalid_range", "`fewest_tokens` must not be above `most_tokens`.")
    return Substitution(model, instead, fewest, most)


def _factor(asked: Any, name: str, default: Decimal) -> Decimal:
    text = asked.get(name)
    if text is None:
        return default
    try:
        factor = Decimal(text) if len(text) <= 12 else Decimal("NaN")
    except InvalidOperation:
        factor = Decimal("NaN")
    if not (factor.is_finite() and Decimal("0.01") <= factor <= 100):
        raise Problem(400, "invalid_range", f"Give `{name}` as a number from 0.01 to 100.")
    return factor
