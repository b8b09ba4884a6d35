"""What the last months would have cost on other plans, or with another model; and the way to the plan itself."""

from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.access import MemberRequest, member_required
from accounts.pages import render_page
from billing.forms import ComparisonForm
from billing.money import minor_to_decimal
from billing.tariff_comparison import Comparison, ModelNotUsed, Substitution, compare_tariffs


@member_required()
@require_safe
def tariff_comparison(request: MemberRequest) -> HttpResponse:
    """The question stands in the address; what cannot be read of it is named, and the default stands in for it."""
    now = timezone.now()
    form = ComparisonForm(request.GET, organisation=request.organisation, now=now)
    other = Substitution(*form.replacement) if form.replacement else None
    try:
        comparison = compare_tariffs(request.organisation, months=form.wanted_months, now=now, substitution=other)
    except ModelNotUsed as error:
        form.add_error("model", error.sentence)
        comparison = compare_tariffs(request.organisation, months=form.wanted_months, now=now)
    context = {
        "active_nav": "plan",
        "form": form,
        "comparison": comparison,
        "rows": [
            {
                "tariff": tariff,
                "saving": (saving := comparison.saving_minor(tariff)),
                "extra": -(saving or 0),
                "unpriced": _models_of(tariff.unpriced),
            }
            for tariff in comparison.tariffs
        ],
        "chart": _chart(comparison),
        "zone": request.organisation.zone,
    }
    return render_page(request, "billing/tariff_comparison.html", context, part="figures")


def _models_of(readings: Any) -> list[str]:
    """What has no price: "gpt-oss input_tokens", once each."""
    return sorted({f"{reading.model or 'no model'} {reading.meter.replace('_', ' ')}" for reading in readings})


def _chart(comparison: Comparison) -> dict[str, Any] | None:
    """A bar a plan, and with another model what it comes to at the fewest and the most tokens."""
    if not comparison.has_usage:
        return None
    currency = comparison.currency
    series = [("Total", [tariff.total_minor for tariff in comparison.tariffs])]
    if comparison.substitution is not None:
        series = [
            ("Fewest tokens", [tariff.least_minor for tariff in comparison.tariffs]),
            ("As many tokens", [tariff.total_minor for tariff in comparison.tariffs]),
            ("Most tokens", [tariff.most_minor for tariff in comparison.tariffs]),
        ]
    return {
        "title": "What these months come to",
        "kind": "bar",
        "unit": currency,
        "stacked": False,
        "total": False,
        "label_heading": "Plan",
        "labels": [tariff.offer.plan.name for tariff in comparison.tariffs],
        "series": [
            {"name": name, "values": [minor_to_decimal(minor, currency) for minor in totals]} for name, totals in series
        ],
    }
