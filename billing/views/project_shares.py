"""The running bill and an invoice by project, as page and as CSV."""

import csv
from io import StringIO
from typing import Any

from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.access import MemberRequest, member_required
from accounts.pages import render_page
from billing import invoicing
from billing.models import Invoice
from billing.project_shares import by_project, csv_rows
from billing.subscribing import current_subscription


@member_required()
@require_safe
def bill_by_project(request: MemberRequest) -> HttpResponse:
    now = timezone.now()
    subscription = current_subscription(request.organisation, now)
    if subscription is None:
        raise Http404("There is no running bill.")
    bill = invoicing.running_bill(subscription, now)
    return _answer(
        request,
        lines=bill.lines,
        currency=bill.currency,
        total_minor=bill.total_minor,
        period=bill.period,
        zone=subscription.zone,
        title="The bill so far",
        back=reverse("billing:bill", args=[request.organisation.slug]),
        name=f"bill-{bill.period.start:%Y-%m-%d}",
    )


@member_required()
@require_safe
def invoice_by_project(request: MemberRequest, number: str) -> HttpResponse:
    rows = Invoice.objects.for_organisation(request.organisation).select_related("subscription")
    invoice = get_object_or_404(rows, number=number)
    return _answer(
        request,
        lines=list(invoice.lines.all()),
        currency=invoice.currency,
        total_minor=invoice.total_minor,
        period={"start": invoice.period_start, "end": invoice.period_end},
        zone=invoice.subscription.zone,
        title=f"Invoice {invoice.number}",
        back=reverse("billing:invoice", args=[request.organisation.slug, number]),
        name=f"invoice-{invoice.number}",
    )


def _answer(request: MemberRequest, *, lines: Any, currency: str, name: str, **context: Any) -> HttpResponse:
    """The page, or with `?format=csv` the file."""
    shares = by_project(request.organisation, lines)
    if request.GET.get("format") == "csv":
        text = StringIO(newline="")
        csv.writer(text).writerows(csv_rows(shares, currency))
        response = HttpResponse(text.getvalue(), content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="{name}-by-project.csv"'
        return response
    return render_page(
        request,
        "billing/project_shares.html",
        {"active_nav": "bill", "shares": shares, "currency": currency, **context},
    )
