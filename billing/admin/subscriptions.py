"""Subscriptions as operators see them, and closing a period that has ended, after a look at what it would say."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.decorators import action, display

from accounts.admin_rows import OperatorAdmin, ReadOnlyInline, operator_of
from accounts.enqueue import enqueue_on_commit
from accounts.errors import DomainError
from billing import invoicing, schedules, tasks
from billing.admin.subscription_acts import SubscriptionActs
from billing.bill_sections import Section, sections_of
from billing.bills import Bill
from billing.models import (
    CouponRedemption,
    Invoice,
    PlanVersion,
    Subscription,
    SubscriptionPause,
    SubscriptionPhase,
)
from billing.money import format_money
from billing.periods import Period
from billing.subscribing import subscribe

# Each is rated for the preview; more at once is a job for the sweep.
MOST_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class DryRun:
    """What closing would do for one subscription."""

    subscription: Subscription
    period: Period | None
    bill: Bill | None
    sections: list[Section]
    # Why it cannot be closed; empty when it can.
    obstacle: str = ""
    # Only the wait for late events stands in the way.
    is_in_grace: bool = False


class Phases(ReadOnlyInline):
    model = SubscriptionPhase
    fields = readonly_fields = ("plan_version", "starts_at", "created_at")


class Pauses(ReadOnlyInline):
    model = SubscriptionPause
    fields = readonly_fields = ("starts_at", "ends_at", "reason")


class Redemptions(ReadOnlyInline):
    model = CouponRedemption
    fields = readonly_fields = ("coupon", "redeemed_at", "starts_at", "withdrawn_at")


class Invoices(ReadOnlyInline):
    model = Invoice
    fields = readonly_fields = ("number", "period_start", "period_end", "total_minor", "currency", "state")
    show_change_link = True


class NewSubscriptionForm(forms.ModelForm):
    plan_version = forms.ModelChoiceField(PlanVersion.objects.none())
    trial_days = forms.IntegerField(
        min_value=0, max_value=730, required=False, help_text="Nothing is charged for so long. Empty: as the plan says."
    )

    class Meta:
        model = Subscription
        fields = ("organisation", "anchor_at")
        help_texts = {"anchor_at": "When the first period begins; rounded down to a quarter hour."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        versions = PlanVersion.objects.filter(published_at__isnull=False, plan__archived_at=None)
        self.fields["plan_version"].queryset = versions.select_related("plan")  # type: ignore[attr-defined]


@admin.register(Subscription)
class SubscriptionAdmin(SubscriptionActs, OperatorAdmin):
    list_display = ("organisation", "plan", "state", "anchor_at", "waiting_period", "closing", "ends_at")
    list_filter = ("state", "currency")
    list_select_related = ("organisation",)
    search_fields = ("organisation__name", "organisation__slug", "public_id")
    fields = readonly_fields = (
        "public_id",
        "organisation",
        "currency",
        "cadence",
        "anchor_at",
        "time_zone",
        "state",
        "created_at",
        "ends_at",
        "trial_ends_at",
        "settled_at",
    )
    inlines = (Phases, Pauses, Redemptions, Invoices)
    actions = ("close_selected",)
    actions_detail = (
        "close_this",
        "change_plan_of",
        "cancel_this",
        "reactivate",
        "pause_this",
        "end_pause_of",
        "move_trial",
        "give_coupon",
        "make_prepaid",
    )

    def get_form(self, request: HttpRequest, obj: Subscription | None = None, **kwargs: Any) -> Any:
        return super().get_form(request, obj, **({} if obj else {"form": NewSubscriptionForm}), **kwargs)

    def get_fields(self, request: HttpRequest, obj: Subscription | None = None) -> Any:
        return self.fields if obj else ("organisation", "plan_version", "anchor_at", "trial_days")

    def get_readonly_fields(self, request: HttpRequest, obj: Subscription | None = None) -> Any:
        return self.readonly_fields if obj else ()

    def get_inlines(self, request: HttpRequest, obj: Subscription | None) -> Any:
        return self.inlines if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Subscription, form: forms.ModelForm, change: bool) -> None:
        if change:
            return
        values = form.cleaned_data
        made = subscribe(
            values["organisation"],
            values["plan_version"],
            now=timezone.now(),
            anchor=values["anchor_at"],
            trial_days=values["trial_days"],
            actor=operator_of(request),
            request=request,
        )
        obj.__dict__.update(made.__dict__)

    def add_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().add_view(request, *args, **kwargs)
        except DomainError as error:
            messages.error(request, error.sentence)
            return redirect(reverse("admin:billing_subscription_changelist"))

    @display(description="Plan")
    def plan(self, subscription: Subscription) -> str:
        return str(schedules.version_at(subscription, timezone.now()))

    @display(description="Period to close", label={"ended": "warning", "running": "info", "none": ""})
    def waiting_period(self, subscription: Subscription) -> tuple[str, str]:
        period = schedules.earliest_open_period(subscription)
        if period is None:
            return "none", "all closed"
        has_ended = period.end <= timezone.now()
        at = f"{period.end:%-d %b %Y, %H:%M} UTC"
        return ("ended", f"ended {at}") if has_ended else ("running", f"runs until {at}")

    @display(description="")
    def closing(self, subscription: Subscription) -> str:
        period = schedules.earliest_open_period(subscription)
        if period is None or period.end > timezone.now():
            return ""
        address = reverse("admin:billing_subscription_close_this", args=[subscription.pk])
        return format_html('<a class="font-medium text-primary-600" href="{}">Close it…</a>', address)

    @admin.action(description="Close the period that ended…", permissions=("change",))
    def close_selected(self, request: HttpRequest, rows: QuerySet[Subscription]) -> HttpResponse:
        return redirect_to_closing(rows.values_list("pk", flat=True)[:MOST_AT_ONCE])

    @action(description="Close the period that ended…", url_path="closing", permissions=("change",))
    def close_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The dry run of this subscription (or of several: `?ids=1,2`), and, once confirmed, the closing."""
        ids = [int(pk) for pk in request.GET.get("ids", object_id).split(",") if pk.isdigit()][:MOST_AT_ONCE]
        rows = list(Subscription.objects.filter(pk__in=ids).select_related("organisation").order_by("pk"))
        now = timezone.now()
        if request.method == "POST":
            _close_all(request, rows, now)
            return redirect(reverse("admin:billing_invoice_changelist"))
        context = {
            **self.admin_site.each_context(request),
            "title": "Close the period that ended",
            "opts": self.opts,
            "runs": [dry_run(row, now) for row in rows],
            "now": now,
        }
        return TemplateResponse(request, "billing/admin/closing.html", context)


def redirect_to_closing(ids: Any) -> HttpResponse:
    named = [str(pk) for pk in ids]
    address = reverse("admin:billing_subscription_close_this", args=[named[0]])
    return redirect(f"{address}?ids={','.join(named)}")


def dry_run(subscription: Subscription, now: datetime) -> DryRun:
    """The bill as it would be finalised, and what stands in the way, if anything does."""
    period = schedules.earliest_open_period(subscription)
    if period is None:
        return DryRun(subscription, None, None, [], invoicing.NothingToClose.sentence)
    obstacle, is_in_grace = "", False
    try:
        invoicing.require_closable(subscription, now=now)
    except invoicing.StillInGrace as error:
        obstacle, is_in_grace = error.sentence, True
    except DomainError as error:
        obstacle = error.sentence
    bill = invoicing.bill_to_close(subscription, period, now)
    return DryRun(subscription, period, bill, sections_of(bill.lines), obstacle, is_in_grace)


def _close_all(request: HttpRequest, rows: list[Subscription], now: datetime) -> None:
    """Closes exactly the periods that were shown: their starts come with the form."""
    skip_grace = request.POST.get("skip_grace") == "yes"
    for row in rows:
        period = schedules.earliest_open_period(row)
        if period is None or period.start.isoformat() != request.POST.get(f"period-{row.pk}"):
            messages.warning(request, f"{row.organisation}: closed by somebody else in the meantime.")
            continue
        try:
            invoice = invoicing.close_period(
                row, period=period, now=now, force_grace=skip_grace, actor=operator_of(request), request=request
            )
        except DomainError as error:
            messages.error(request, f"{row.organisation}: {error.sentence}")
            continue
        enqueue_on_commit(tasks.push_invoice, invoice.pk)
        enqueue_on_commit(tasks.announce_invoice, invoice.pk)
        total = format_money(invoice.total_minor, invoice.currency)
        messages.success(request, f"{row.organisation}: invoice {invoice.number} over {total} is finalised.")
