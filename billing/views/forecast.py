"""Where the running period is heading, how sure that is, how right the method was, and a budget to go with it."""

from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.access import MemberRequest, member_required
from accounts.pages import render_page
from billing import budgets, forecasting, schedules
from billing.models import Forecast, Subscription
from billing.money import minor_to_decimal
from billing.subscribing import current_subscription


@member_required()
@require_safe
def forecast(request: MemberRequest) -> HttpResponse:
    now = timezone.now()
    subscription = current_subscription(request.organisation, now)
    context: dict[str, Any] = {"active_nav": "forecast", "subscription": subscription}
    if subscription is not None:
        context |= _context(subscription, forecasting.latest_made(subscription), now)
    return render_page(request, "billing/forecast.html", context)


def _context(subscription: Subscription, row: Forecast | None, now: Any) -> dict[str, Any]:
    period = schedules.current_period(subscription, now)
    trials = forecasting.trials_of(row) if row else []
    is_current = row is not None and row.period_start == period.start and row.total_minor is not None
    suggestion = budgets.suggest_budget(subscription, row if is_current else None)
    return {
        "zone": subscription.zone,
        "period": period,
        "forecast": row if is_current else None,
        "trials": trials,
        "typical_error": forecasting.typical_error(trials),
        "covered": sum(trial.is_covered for trial in trials),
        "suggestion": suggestion,
        "chart": _chart(subscription.currency, suggestion, row if is_current else None),
    }


def _chart(currency: str, suggestion: budgets.BudgetSuggestion | None, row: Forecast | None) -> dict[str, Any] | None:
    """The last periods' totals, and the running one as it is forecast."""
    if suggestion is None or row is None or row.total_minor is None:
        return None
    past = [minor_to_decimal(total, currency) for total in suggestion.totals_minor]
    return {
        "title": "Periods so far, and this one",
        "kind": "bar",
        "unit": currency,
        "total": False,
        "label_heading": "Period",
        "labels": [*(f"{len(past) - place} before" for place in range(len(past))), "This one"],
        "series": [
            {"name": "Invoiced", "values": [*past, None]},
            {"name": "Forecast", "values": [*[None] * len(past), minor_to_decimal(row.total_minor, currency)]},
        ],
    }
