"""The overview: an organisation's consumption as a smart meter shows it, or, before there is any, what to do first."""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe
from django_htmx.http import HttpResponseClientRefresh

from accounts.access import MemberRequest, member_required
from accounts.first_event import curl_line
from accounts.models import ApiKey, Organisation
from accounts.pages import render_page, wants_part
from billing import forecasting, invoicing, schedules
from billing.consumption import consumption, daily_chart, month_containing
from billing.credit_statement import left_after
from billing.models import Invoice, Subscription
from billing.periods import Period
from billing.subscribing import current_subscription
from metering import reports
from metering.limits_page import tightest_limits

LATEST_INVOICES = 3
# The element of the empty page that asks whether the first event has come.
WAITING_ID = "first-event"
# What the poll of a page says that has no chart yet.
WITHOUT_CHART = "without-chart"


@member_required()
@require_safe
def overview(request: MemberRequest) -> HttpResponse:
    """The figures at the top refresh themselves; the rest follows on the next visit."""
    organisation, now = request.organisation, timezone.now()
    subscription = current_subscription(organisation, now)
    context: dict[str, Any] = {"active_nav": "overview", "subscription": subscription, "now": now}
    is_empty = reports.last_received_at(organisation) is None
    if wants_part(request) and (is_empty or _has_become_outdated(request, now)):
        return HttpResponse(status=204) if is_empty else HttpResponseClientRefresh()
    if is_empty:
        return render_page(request, "billing/overview_empty.html", context | _first_steps(organisation, now))
    context |= _live_figures(organisation, subscription, now)
    if not wants_part(request):
        context |= _standing_figures(organisation, now)
    return render_page(request, "billing/overview.html", context, part="live")


def _has_become_outdated(request: MemberRequest, now: datetime) -> bool:
    """Whether the page that polls waits for what is there by now: the first event, or days to draw."""
    if request.htmx.trigger == WAITING_ID:
        return True
    return WITHOUT_CHART in request.GET and daily_chart(request.organisation, now) is not None


def _standing_figures(organisation: Organisation, now: datetime) -> dict[str, Any]:
    """What only a whole page shows."""
    return {
        "chart": daily_chart(organisation, now),
        "limits": tightest_limits(organisation, now),
        "invoices": list(Invoice.objects.for_organisation(organisation)[:LATEST_INVOICES]),
        "key_count": ApiKey.objects.for_organisation(organisation).live(now).count(),
    }


def _first_steps(organisation: Organisation, now: datetime) -> dict[str, Any]:
    """The key, if one is made, and the line that reports a first call."""
    key = ApiKey.objects.for_organisation(organisation).live(now).order_by("-pk").first()
    return {
        "key": key,
        "waiting_id": WAITING_ID,
        "curl": curl_line(key.public_id if key else organisation.public_id),
        "makes_own_token": settings.DEVELOPMENT_MAILBOX is not None,
    }


def _live_figures(organisation: Organisation, subscription: Subscription | None, now: datetime) -> dict[str, Any]:
    period = schedules.current_period(subscription, now) if subscription else month_containing(organisation, now)
    rate = reports.live_rate(organisation, now)
    figures: dict[str, Any] = {
        "period": period,
        "zone": subscription.zone if subscription else organisation.zone,
        "tokens_per_minute": int(rate.per_minute.to_integral_value()),
        "consumption": consumption(organisation, period, before=_before(organisation, subscription, period), now=now),
        "days_left": (period.end - now) // timedelta(days=1),
        "days_passed": (now - period.start) // timedelta(days=1),
        "days_whole": max(1, (period.end - period.start) // timedelta(days=1)),
    }
    if subscription is None:
        return figures
    bill = invoicing.running_bill(subscription, now, period=period)
    return figures | {
        "bill": bill,
        "credit_left": left_after(bill, organisation, now),
        "forecast": forecasting.latest_forecast(subscription, period),
    }


def _before(organisation: Organisation, subscription: Subscription | None, period: Period) -> Period:
    just_before = period.start - schedules.RESOLUTION
    if subscription is None:
        return month_containing(organisation, just_before)
    return schedules.period_containing(subscription, just_before)
