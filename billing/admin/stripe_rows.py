"""What is known of our things at Stripe, and trying again now what is stuck."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import display

from accounts.admin_rows import ReadOnlyAdmin, operator_of
from accounts.audit import record
from accounts.enqueue import enqueue_on_commit
from billing import tasks
from billing.models import CreditPurchase, StripeCustomer, StripeEvent, StripeInvoice
from billing.models.credit_purchases import UNDECIDED
from billing.models.stripe_mirror import PushState
from billing.money import format_money

MOST_AT_ONCE = 100


@admin.register(StripeInvoice)
class StripeInvoiceAdmin(ReadOnlyAdmin):
    list_display = ("invoice", "organisation", "push_state", "remote_status", "tries", "next_try_at", "last_error")
    list_filter = ("state", "environment", "remote_status")
    list_select_related = ("invoice__organisation",)
    search_fields = ("invoice__number", "stripe_id", "invoice__organisation__name")
    actions = ("retry_now",)

    @display(description="Organisation", ordering="invoice__organisation__name")
    def organisation(self, push: StripeInvoice) -> str:
        return str(push.invoice.organisation)

    @display(
        description="State",
        ordering="state",
        label={"pushed": "success", "waiting": "warning", "mismatch": "danger", "refused": "danger"},
    )
    def push_state(self, push: StripeInvoice) -> tuple[str, str]:
        return push.state, push.get_state_display()

    @admin.action(description="Retry now", permissions=("act",))
    def retry_now(self, request: HttpRequest, rows: QuerySet[StripeInvoice]) -> None:
        """Also after a mismatch or a refusal: a person has looked."""
        chosen = list(rows.exclude(state=PushState.PUSHED).select_related("invoice__organisation")[:MOST_AT_ONCE])
        for push in chosen:
            StripeInvoice.objects.filter(pk=push.pk).update(state=PushState.WAITING, next_try_at=None)
            record(
                "invoice.push_retried",
                organisation=push.invoice.organisation,
                actor=operator_of(request),
                subject_id=push.invoice.public_id,
                subject_label=push.invoice.number,
                request=request,
            )
            enqueue_on_commit(tasks.push_invoice, push.pk)
        messages.success(request, f"{len(chosen)} will be tried again within half a minute.")


@admin.register(StripeCustomer)
class StripeCustomerAdmin(ReadOnlyAdmin):
    list_display = ("organisation", "environment", "currency", "stripe_id", "is_missing", "created_at")
    list_filter = ("environment", "is_missing")
    list_select_related = ("organisation",)
    search_fields = ("stripe_id", "organisation__name", "organisation__slug")


@admin.register(StripeEvent)
class StripeEventAdmin(ReadOnlyAdmin):
    list_display = ("id", "type", "object_id", "received_at", "handled_at", "tries", "error")
    list_filter = ("type", ("handled_at", admin.EmptyFieldListFilter))
    search_fields = ("id", "object_id")
    date_hierarchy = "received_at"
    actions = ("apply_now",)

    @admin.action(description="Apply now", permissions=("act",))
    def apply_now(self, request: HttpRequest, rows: QuerySet[StripeEvent]) -> None:
        chosen = list(rows.filter(handled_at=None)[:MOST_AT_ONCE])
        for event in chosen:
            enqueue_on_commit(tasks.apply_stripe_event, event.pk)
        messages.success(request, f"{len(chosen)} will be applied within half a minute.")


@admin.register(CreditPurchase)
class CreditPurchaseAdmin(ReadOnlyAdmin):
    list_display = ("public_id", "organisation", "amount", "purchase_state", "refunded", "created_at", "last_error")
    list_filter = ("state", "environment", "currency")
    list_select_related = ("organisation",)
    search_fields = ("public_id", "stripe_id", "payment_intent", "organisation__name", "organisation__slug")
    actions = ("ask_now",)

    @display(description="Amount", ordering="amount_minor")
    def amount(self, purchase: CreditPurchase) -> str:
        return format_money(purchase.amount_minor, purchase.currency)

    @display(description="Refunded")
    def refunded(self, purchase: CreditPurchase) -> str:
        return format_money(purchase.refunded_minor, purchase.currency) if purchase.refunded_minor else ""

    @display(description="State", ordering="state", label={"paid": "success", "open": "warning", "mismatch": "danger"})
    def purchase_state(self, purchase: CreditPurchase) -> tuple[str, str]:
        return purchase.state, purchase.get_state_display()

    @admin.action(description="Ask Stripe now", permissions=("act",))
    def ask_now(self, request: HttpRequest, rows: QuerySet[CreditPurchase]) -> None:
        chosen = list(rows.filter(state__in=UNDECIDED)[:MOST_AT_ONCE])
        for purchase in chosen:
            enqueue_on_commit(tasks.check_credit_purchase, purchase.pk)
        messages.success(request, f"Stripe is asked about {len(chosen)}.")
