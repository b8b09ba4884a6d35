"""Invoices and billing details as operators see them. Nothing on an invoice can be changed."""

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from unfold.decorators import display

from accounts.admin_rows import ReadOnlyAdmin, ReadOnlyInline
from billing.models import BillingDetails, Invoice, InvoiceEmail, InvoiceLine, StripeInvoice
from billing.money import format_exact, format_money


class Lines(ReadOnlyInline):
    model = InvoiceLine
    fields = readonly_fields = ("position", "description", "quantity", "amount_exact", "amount_minor", "explanation")


class Push(ReadOnlyInline):
    model = StripeInvoice
    fields = readonly_fields = ("state", "stripe_id", "remote_status", "remote_total", "tries", "last_error")
    show_change_link = True


class Announcement(ReadOnlyInline):
    model = InvoiceEmail
    fields = readonly_fields = ("sent_at", "sent_to", "tries", "next_try_at", "last_error")


@admin.register(Invoice)
class InvoiceAdmin(ReadOnlyAdmin):
    list_display = ("number", "organisation", "total", "payment", "push", "period_start", "period_end", "due_at")
    list_filter = ("state", "currency", "stripe_invoice__state")
    list_select_related = ("organisation", "stripe_invoice")
    search_fields = ("number", "public_id", "organisation__name", "organisation__slug")
    date_hierarchy = "finalised_at"
    fields = (
        "number",
        "public_id",
        "customer_address",
        "organisation",
        "subscription",
        "plan_name",
        "period_start",
        "period_end",
        "total",
        "exact_total",
        "state",
        "amount_paid_minor",
        "finalised_at",
        "due_at",
        "paid_at",
        "parties",
        "evidence",
    )
    inlines = (Lines, Push, Announcement)

    @display(description="Total", ordering="total_minor")
    def total(self, invoice: Invoice) -> str:
        return format_money(invoice.total_minor, invoice.currency)

    @display(description="Exact sum")
    def exact_total(self, invoice: Invoice) -> str:
        return format_exact(invoice.total_exact, invoice.currency)

    @display(
        description="Payment",
        ordering="state",
        label={"paid": "success", "pushed": "info", "uncollectible": "danger", "finalised": "warning"},
    )
    def payment(self, invoice: Invoice) -> tuple[str, str]:
        return invoice.state, invoice.get_state_display()

    @display(description="Stripe", label={"waiting": "warning", "mismatch": "danger", "refused": "danger"})
    def push(self, invoice: Invoice) -> tuple[str, str] | None:
        push: StripeInvoice | None = getattr(invoice, "stripe_invoice", None)
        return (push.state, push.get_state_display()) if push else None

    @display(description="In the portal")
    def customer_address(self, invoice: Invoice) -> str:
        """For members; an operator says first what for, and the organisation can read who looked."""
        path = reverse("billing:invoice", kwargs={"slug": invoice.organisation.slug, "number": invoice.number})
        return format_html('<a href="{}">{}</a>', path, settings.SITE_URL + path)


@admin.register(BillingDetails)
class BillingDetailsAdmin(ReadOnlyAdmin):
    list_display = ("organisation", "legal_name", "email", "country", "tax_id")
    list_select_related = ("organisation",)
    search_fields = ("organisation__name", "organisation__slug", "legal_name", "email")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("organisation", "legal_name", "email", "address", "country", "tax_id")
