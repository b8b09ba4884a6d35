"""Credit: granted by a form that shows what the customer will see, taken back after a question; the ledger as it is."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AutocompleteSelect
from django.core.exceptions import PermissionDenied
from django.db.models import Min, Q, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action, display
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextInputWidget,
)

from accounts.admin_rows import ReadOnlyAdmin, operator_of
from accounts.errors import DomainError
from accounts.models import Organisation
from billing import crediting
from billing.admin.row_fields import meter_choices
from billing.credit_statement import GrantState, movements, pays_for, state_of
from billing.models import CreditGrant, GrantKind, LedgerTransaction
from billing.money import format_exact
from billing.owed import owed_to_those_who_left
from billing.plan_words import meter_names

ZERO = Decimal(0)
# Of one grant on its page; more than this is a year of weekly invoices.
MOST_MOVEMENTS = 200
# What an operator gives by hand; the others come from plans and payments.
KINDS = [(kind.value, kind.label) for kind in (GrantKind.MANUAL, GrantKind.PROMOTIONAL, GrantKind.PURCHASED)]


class GrantForm(forms.Form):
    organisation = forms.ModelChoiceField(
        Organisation.objects.all(),
        label="Organisation",
        widget=AutocompleteSelect(CreditGrant._meta.get_field("organisation"), admin.site),
    )
    kind = forms.ChoiceField(
        label="Kind",
        choices=KINDS,
        initial=GrantKind.PROMOTIONAL,
        widget=UnfoldAdminSelectWidget,
        help_text="Purchased: paid for outside Stripe, by bank transfer say.",
    )
    amount = forms.DecimalField(label="Amount", max_digits=30, widget=UnfoldAdminDecimalFieldWidget)
    currency = forms.CharField(
        label="Currency",
        min_length=3,
        max_length=3,
        initial="USD",
        widget=UnfoldAdminTextInputWidget,
        help_text="Pays for bills in this currency and no others.",
    )
    priority = forms.IntegerField(
        label="Priority",
        min_value=0,
        max_value=crediting.LAST_PRIORITY,
        initial=100,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Smaller is used first; of the same, what expires first.",
    )
    effective_at = forms.SplitDateTimeField(
        label="Can be used from (UTC)",
        required=False,
        widget=UnfoldAdminSplitDateTimeWidget,
        help_text="Empty: at once.",
    )
    expires_at = forms.SplitDateTimeField(
        label="Expires (UTC)", required=False, widget=UnfoldAdminSplitDateTimeWidget, help_text="Empty: never."
    )
    meters = forms.MultipleChoiceField(
        label="Pays only for",
        required=False,
        choices=meter_choices,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="None chosen: everything on the bill, fees included.",
    )
    reason = forms.CharField(
        label="Reason",
        max_length=crediting.LONGEST_REASON,
        widget=UnfoldAdminTextInputWidget({"autocomplete": "off"}),
        help_text="The customer reads it.",
    )

    def clean_currency(self) -> str:
        return str(self.cleaned_data["currency"]).upper()

    def clean(self) -> dict[str, Any]:
        """Says what the verb would refuse, and writes nothing."""
        values = super().clean() or {}
        if not self.errors:
            try:
                crediting.require_grantable(now=timezone.now(), **self.terms)
            except DomainError as error:
                raise forms.ValidationError(error.sentence, code=error.code) from error
        return values

    @property
    def terms(self) -> dict[str, Any]:
        return {name: value for name, value in self.cleaned_data.items() if name != "organisation"}


@dataclass(frozen=True, slots=True)
class Preview:
    """What the organisation's page will say."""

    state: GrantState
    pays_for: str


def _preview(form: GrantForm, now: datetime) -> Preview:
    values = form.terms | {"effective_at": form.terms["effective_at"] or now, "created_at": now}
    grant = CreditGrant(organisation=form.cleaned_data["organisation"], **values)
    nothing_used = {"used": ZERO, "left": grant.amount, "expired": ZERO, "reversed": ZERO, "paid_back": ZERO}
    for name, amount in nothing_used.items():
        setattr(grant, name, amount)
    return Preview(state_of(grant, now), pays_for(grant, meter_names()))


class StatusFilter(admin.SimpleListFilter):
    title = "what is left"
    parameter_name = "left"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("some", "Something is left"), ("none", "Nothing is left")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "some":
                return queryset.filter(left__gt=0)
            case "none":
                return queryset.filter(left=0)
        return queryset


class OwedFilter(admin.SimpleListFilter):
    title = "customers who left"
    parameter_name = "owed"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("left", "Owed to customers who left")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(pk__in=owed_to_those_who_left().values("pk")) if self.value() else queryset


@admin.register(CreditGrant)
class CreditGrantAdmin(ReadOnlyAdmin):
    list_display = ("public_id", "organisation", "kind", "granted", "left_of_it", "state", "expires_at", "reason")
    fields = ("public_id", "organisation", "kind", "reason", "priority", "created_at")
    list_filter = (StatusFilter, OwedFilter, "kind", "currency", ("expires_at", admin.EmptyFieldListFilter))
    list_select_related = ("organisation",)
    search_fields = ("public_id", "organisation__slug", "organisation__name", "organisation__public_id", "reason")
    search_help_text = "Id, organisation or reason"
    ordering = ("-pk",)
    actions_detail = ("take_back", "note_payment")
    change_form_template = "billing/admin/credit_grant.html"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("billing.add_creditgrant")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = CreditGrant.objects.with_sums()
        return rows

    @display(description="Granted", ordering="amount")
    def granted(self, grant: CreditGrant) -> str:
        return format_exact(grant.amount, grant.currency)

    @display(description="Left", ordering="left")
    def left_of_it(self, grant: Any) -> str:
        return format_exact(grant.left, grant.currency)

    @display(description="State", label={"Can be used": "success", "Not yet": "info", "Taken back": "danger"})
    def state(self, grant: CreditGrant) -> str:
        return state_of(grant, timezone.now()).status_words

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """The form; with `preview`, first what the customer will see of it."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        now = timezone.now()
        form = GrantForm(request.POST or None, initial={"organisation": request.GET.get("organisation")})
        preview = None
        if request.method == "POST" and form.is_valid():
            if "preview" not in request.POST:
                return self._grant(request, form, now)
            preview = _preview(form, now)
        context = {
            **self.admin_site.each_context(request),
            "title": "Grant credit",
            "opts": self.opts,
            "form": form,
            "media": self.media + form.media,
            "preview": preview,
        }
        return TemplateResponse(request, "billing/admin/credit_grant_form.html", context)

    def _grant(self, request: HttpRequest, form: GrantForm, now: datetime) -> HttpResponse:
        organisation = form.cleaned_data["organisation"]
        by: dict[str, Any] = {"actor": operator_of(request), "request": request}
        grant = crediting.grant_credit(organisation, now=now, **form.terms, **by)
        amount = format_exact(grant.amount, grant.currency)
        messages.success(request, f"{organisation} has {amount} of credit more.")
        return redirect(reverse("admin:billing_creditgrant_change", args=[grant.pk]))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The grant with its ledger, which nobody edits."""
        grant = self.get_object(request, object_id)
        if grant is None or not self.has_view_permission(request, grant):
            return super().change_view(request, object_id, form_url, extra_context)
        moved = movements(CreditGrant.objects.filter(pk=grant.pk))
        shown = {
            "grant": grant,
            "state": state_of(grant, timezone.now()),
            "pays_for": pays_for(grant, meter_names()),
            "movements": moved[:MOST_MOVEMENTS],
        }
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **shown})

    @action(description="Take back what is left…", url_path="reversal", permissions=("act",))
    def take_back(self, request: HttpRequest, object_id: str) -> HttpResponse:
        grant = get_object_or_404(self.get_queryset(request), pk=object_id)
        left = format_exact(grant.left, grant.currency)
        if request.method != "POST" or request.POST.get("confirmed") != "yes":
            context = {
                **self.admin_site.each_context(request),
                "title": f"Take back {left} of {grant.reason}?",
                "opts": self.opts,
                "rows": [grant.organisation],
                "consequence": "What was used stays used: closed invoices do not change. The customer sees it as taken "
                "back, and it cannot be undone; grant it anew instead.",
                "label": "Take it back",
            }
            return TemplateResponse(request, "accounts/admin_confirm.html", context)
        try:
            taken = crediting.reverse_grant(grant, now=timezone.now(), actor=operator_of(request), request=request)
            messages.success(request, f"{format_exact(taken, grant.currency)} is taken back.")
        except DomainError as error:
            messages.error(request, error.sentence)
        return redirect(reverse("admin:billing_creditgrant_change", args=[grant.pk]))

    @action(description="Paid back…", url_path="payment", permissions=("act",))
    def note_payment(self, request: HttpRequest, object_id: str) -> HttpResponse:
        grant = get_object_or_404(self.get_queryset(request), pk=object_id)
        left, reference = format_exact(grant.left, grant.currency), request.POST.get("reason", "").strip()
        if request.method != "POST" or not reference:
            context = {
                **self.admin_site.each_context(request),
                "title": f"Was {left} paid back to {grant.organisation}?",
                "opts": self.opts,
                "rows": [grant.reason],
                "consequence": "This sends no money: it notes that you did. Nothing is left of the credit then, and "
                "the customer sees it as paid back. It cannot be undone.",
                "label": "It was paid back",
                "reason": "How: a bank reference, or the refund's id at Stripe",
                "is_reason_missing": request.method == "POST",
                "longest_reason": crediting.LONGEST_REASON,
            }
            return TemplateResponse(request, "accounts/admin_confirm.html", context)
        try:
            by: dict[str, Any] = {"actor": operator_of(request), "request": request}
            paid = crediting.pay_back(grant, reference=reference[: crediting.LONGEST_REASON], now=timezone.now(), **by)
            messages.success(request, f"{format_exact(paid, grant.currency)} is noted as paid back.")
        except DomainError as error:
            messages.error(request, error.sentence)
        return redirect(reverse("admin:billing_creditgrant_change", args=[grant.pk]))


@admin.register(LedgerTransaction)
class LedgerTransactionAdmin(ReadOnlyAdmin):
    list_display = ("at", "organisation", "kind", "amounts", "invoice")
    list_filter = ("kind",)
    list_select_related = ("organisation", "invoice")
    search_fields = ("organisation__slug", "organisation__name", "organisation__public_id", "invoice__number")
    search_help_text = "Organisation or number of an invoice"
    date_hierarchy = "at"
    fields = readonly_fields = ("organisation", "kind", "at", "amounts", "invoice")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        moved = Sum("entries__amount", filter=Q(entries__amount__gt=0))
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.annotate(moved=moved, currency=Min("entries__grant__currency"))

    @display(description="Moved")
    def amounts(self, transaction: Any) -> str:
        return format_exact(transaction.moved or ZERO, transaction.currency or "USD")
