"""The forecast of the running period, with its interval and how the method did on periods that ended, and a budget that
would fit. Read only."""

from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api_auth import resolve_organisation
from accounts.models import Scope
from accounts.problems import Problem
from billing import budgets, forecasting, schedules
from billing.api.parts import ORGANISATION, REFUSALS, PlainDecimal
from billing.subscribing import current_subscription

FORECAST = {
    "period_start": "2026-11-01T00:00:00Z",
    "period_end": "2026-12-01T00:00:00Z",
    "made_at": "2026-11-22T17:00:00Z",
    "currency": "USD",
    "total_minor": 41250,
    "low_minor": 38800,
    "high_minor": 43700,
    "typical_error_percent": "4.2",
    "trials": [
        {
            "known_until": "2026-10-16T12:00:00Z",
            "period_start": "2026-10-01T00:00:00Z",
            "forecast_minor": 36100,
            "low_minor": 33900,
            "high_minor": 38300,
            "actual_minor": 37020,
            "error_percent": "2.5",
        }
    ],
}


BUDGET = {
    "currency": "USD",
    "tight_minor": 44000,
    "tight_reached": 1,
    "roomy_minor": 55000,
    "roomy_reached": 0,
    "totals_minor": [33100, 36900, 43800],
    "forecast_minor": 41250,
}


class TrialOutput(serializers.Serializer):
    known_until = serializers.DateTimeField(source="at")
    period_start = serializers.DateTimeField(source="period.start")
    forecast_minor = serializers.IntegerField(source="outlook.total_minor")
    low_minor = serializers.IntegerField(source="outlook.low_minor")
    high_minor = serializers.IntegerField(source="outlook.high_minor")
    actual_minor = serializers.IntegerField(help_text="Usage of the whole period, without fees, like the forecast.")
    error_percent = PlainDecimal(allow_null=True, help_text="Of what came; null where nothing came.")


class ForecastOutput(serializers.Serializer):
    period_start = serializers.DateTimeField()
    period_end = serializers.DateTimeField()
    made_at = serializers.DateTimeField(help_text="Made anew every hour.")
    currency = serializers.CharField()
    total_minor = serializers.IntegerField()
    low_minor = serializers.IntegerField(help_text="Eight of ten outcomes should lie between this and `high_minor`.")
    high_minor = serializers.IntegerField()
    typical_error_percent = PlainDecimal(allow_null=True, help_text="Median over the trials; null without any.")
    trials = TrialOutput(many=True, help_text="The same method on periods that ended, with what was known then.")


class BudgetOutput(serializers.Serializer):
    currency = serializers.CharField()
    tight_minor = serializers.IntegerField(help_text="Per period, close to a usual one, in the minor unit.")
    tight_reached = serializers.IntegerField(help_text="How many of the last periods came to as much.")
    roomy_minor = serializers.IntegerField(help_text="With room above the largest.")
    roomy_reached = serializers.IntegerField()
    totals_minor = serializers.ListField(
        child=serializers.IntegerField(),
        help_text="The last periods before credit, oldest first; at most six.",
    )
    forecast_minor = serializers.IntegerField(allow_null=True, help_text="Of the running period; null: unknown.")


class BudgetSuggestion(APIView):
    required_scopes = Scope.BILLING_READ

    @extend_schema(
        operation_id="get_budget_suggestion",
        summary="A budget that would fit",
        description="From what the last periods came to and where the running one is heading. Sets nothing.",
        tags=["Billing"],
        parameters=[ORGANISATION],
        responses={
            200: OpenApiResponse(
                BudgetOutput, "The suggestion", [OpenApiExample("A budget", BUDGET, response_only=True)]
            ),
            **REFUSALS,
        },
    )
    def get(self, request: Request) -> Response:
        now = timezone.now()
        subscription = current_subscription(resolve_organisation(request), now)
        if subscription is None:
            raise Problem(404, "no_subscription", "There is no plan, so there is no bill to budget for.")
        running = forecasting.latest_forecast(subscription, schedules.current_period(subscription, now))
        suggestion = budgets.suggest_budget(subscription, running)
        if suggestion is None:
            raise Problem(404, "too_early", "No period has come to anything yet, and none is forecast to.")
        return Response(BudgetOutput(suggestion).data)


class RunningForecast(APIView):
    required_scopes = Scope.BILLING_READ

    @extend_schema(
        operation_id="get_forecast",
        summary="Where the running bill is heading",
        tags=["Billing"],
        parameters=[ORGANISATION],
        responses={
            200: OpenApiResponse(
                ForecastOutput, "The forecast", [OpenApiExample("A forecast", FORECAST, response_only=True)]
            ),
            **REFUSALS,
        },
    )
    def get(self, request: Request) -> Response:
        subscription = current_subscription(resolve_organisation(request), timezone.now())
        if subscription is None:
            raise Problem(404, "no_subscription", "There is no plan, so there is no bill to forecast.")
        row = forecasting.latest_made(subscription)
        if row is None or row.total_minor is None:
            raise Problem(404, "too_early", "A forecast needs three days of usage, and is made once an hour.")
        trials = forecasting.trials_of(row)
        facts = {
            **{name: getattr(row, name) for name in ("period_start", "period_end", "made_at", "currency")},
            **{name: getattr(row, name) for name in ("total_minor", "low_minor", "high_minor")},
            "typical_error_percent": forecasting.typical_error(trials),
            "trials": trials,
        }
        return Response(ForecastOutput(facts).data)
