"""The running bill: what the current period, or one that is about to be closed, comes to so far."""

from datetime import datetime
from typing import Any

from django.http import Http404, HttpResponse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_safe

from accounts.access import MemberRequest, member_required
from accounts.pages import render_page
from billing import invoicing, schedules
from billing.bill_sections import sections_of
from billing.models import Invoice, Subscription
from billing.money import minimum_charge
from billing.owed import is_owed
from billing.periods import Period
from billing.plan_words import meter_names
from billing.uncharged import usage_without_charge

PAST_INVOICES = 12


@member_required()
@require_safe
def bill(request: MemberRequest) -> HttpResponse:
    """Refreshes itself; `?period=` names the start of another open period."""
    now = timezone.now()
    subscription = _subscription(request)
    context: dict[str, Any] = {"active_nav": "bill", "subscription": subscription, "now": now}
    if subscription is not None:
        context |= _bill_context(subscription, request.GET.get("period"), now)
    return render_page(request, "billing/bill.html", context, part="figures")


def _subscription(request: MemberRequest) -> Subscription | None:
    """The current one, or else the last, whose final bill may still be open."""
    return (
        Subscription.objects.for_organisation(request.organisation)
        .select_related("organisation")
        .order_by("-pk")
        .first()
    )


def _bill_context(subscription: Subscription, asked: str | None, now: datetime) -> dict[str, Any]:
    open_periods = _open_periods(subscription, now)
    period = _chosen(open_periods, asked)
    context: dict[str, Any] = {
        "zone": subscription.zone,
        "open_periods": open_periods,
        "period": period,
        "invoices": list(Invoice.objects.filter(subscription=subscription)[:PAST_INVOICES]),
    }
    if period is None:
        return context
    running = invoicing.running_bill(subscription, now, period=period)
    return context | {
        "bill": running,
        "is_owed": is_owed(subscription, running),
        "meter_names": meter_names(),
        "sections": sections_of(running.lines),
        "without_charge": usage_without_charge(running),
        "least": minimum_charge(running.currency),
        "has_ended": period.end <= now,
        "closes_at": period.end + invoicing.grace(),
    }


def _open_periods(subscription: Subscription, now: datetime) -> list[Period]:
    """From the earliest without an invoice to the current one, newest first."""
    period = schedules.earliest_open_period(subscription)
    current = schedules.current_period(subscription, now)
    periods: list[Period] = []
    while period is not None and period.start <= current.start:
        periods.append(period)
        period = schedules.period_after(subscription, period)
    return periods[::-1]


def _chosen(periods: list[Period], asked: str | None) -> Period | None:
    if not asked:
        return periods[0] if periods else None
    start = parse_datetime(asked) if len(asked) < 40 else None
    for period in periods:
        if start == period.start:
            return period
    raise Http404("There is no open bill of that period.")
