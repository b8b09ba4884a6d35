"""Invoices: the list, one of them, and the way to pay it."""

from datetime import datetime
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.access import MemberRequest, member_required
from accounts.models import Capability
from accounts.pages import render_page
from billing import stripe_gateway, stripe_sync
from billing.bill_sections import sections_of
from billing.invoice_history import history_of
from billing.models import Invoice
from billing.models.invoices import InvoiceState
from billing.plan_words import meter_names
from billing.uncharged import usage_not_charged

PAGE_SIZE = 24


@member_required()
@require_safe
def invoices(request: MemberRequest) -> HttpResponse:
    rows = Invoice.objects.for_organisation(request.organisation).select_related("subscription").defer("evidence")
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    context = {"active_nav": "invoices", "page_obj": page, "now": timezone.now()}
    return render_page(request, "billing/invoices.html", context)


@member_required()
@require_safe
def invoice(request: MemberRequest, number: str) -> HttpResponse:
    """Screen and paper. While it is not settled its state refreshes itself."""
    found = _invoice(request, number)
    now = timezone.now()
    return render_page(request, "billing/invoice.html", _invoice_context(found, now), part="state")


@member_required(Capability.MANAGE_BILLING)
@require_safe
def invoice_payment(request: MemberRequest, number: str) -> HttpResponse:
    """To the hosted page where the invoice is paid, whose address is fetched afresh each time."""
    found = _invoice(request, number)
    try:
        url = stripe_sync.hosted_payment_url(found)
    except (stripe_sync.NotYetAtStripe, stripe_gateway.TemporaryFailure, stripe_gateway.Refused):
        messages.warning(request, "The payment page is not ready yet. Please try again in a minute.")
        return redirect("billing:invoice", slug=request.organisation.slug, number=number)
    return HttpResponseRedirect(url)


def _invoice(request: MemberRequest, number: str) -> Invoice:
    rows = Invoice.objects.for_organisation(request.organisation).select_related(
        "subscription", "stripe_invoice", "announcement"
    )
    return get_object_or_404(rows, number=number)


def _invoice_context(found: Invoice, now: datetime) -> dict[str, Any]:
    lines = list(found.lines.all())
    return {
        "active_nav": "invoices",
        "invoice": found,
        "zone": found.subscription.zone,
        "sections": sections_of(lines),
        "meter_names": meter_names(),
        "seller": found.parties["seller"],
        "buyer": found.parties["buyer"],
        "evidence": found.evidence,
        "without_charge": usage_not_charged(found.evidence),
        "history": history_of(found, now),
        "can_be_paid": found.state == InvoiceState.PUSHED,
        "is_overdue": is_overdue(found, now),
        "now": now,
    }


def is_overdue(found: Invoice, now: datetime) -> bool:
    return found.state == InvoiceState.PUSHED and found.due_at < now
