"""Corrections of prices in closed periods: what today's book would change, then, with a reason, the correction."""

from itertools import islice
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from accounts.admin_rows import ReadOnlyAdmin, ReadOnlyInline, operator_of
from accounts.errors import DomainError
from accounts.models import Organisation
from billing.models import CorrectedInvoice, PriceCorrection
from billing.price_corrections import correct_prices, differences

# Invoices shown before a correction; more are corrected by the command, which has the time.
MOST_SHOWN = 100


class CorrectionForm(forms.Form):
    start = forms.DateTimeField(label="From (UTC)", widget=UnfoldAdminTextInputWidget)
    end = forms.DateTimeField(label="Until (UTC)", widget=UnfoldAdminTextInputWidget)
    organisation = forms.ModelChoiceField(
        label="Organisation",
        queryset=Organisation.objects.order_by("name"),
        required=False,
        empty_label="All",
        widget=UnfoldAdminSelectWidget,
    )
    reason = forms.CharField(
        label="Why", required=False, max_length=500, widget=UnfoldAdminTextInputWidget({"autocomplete": "off"})
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if {"start", "end"} <= cleaned.keys() and cleaned["start"] >= cleaned["end"]:
            raise forms.ValidationError("The time must end after it begins.", code="empty")
        return cleaned


class CorrectedInvoices(ReadOnlyInline):
    model = CorrectedInvoice
    fields = readonly_fields = ("invoice", "difference")


@admin.register(PriceCorrection)
class PriceCorrectionAdmin(ReadOnlyAdmin):
    list_display = ("public_id", "organisation", "starts_at", "ends_at", "made_at", "reason")
    list_select_related = ("organisation",)
    fields = ("public_id", "organisation", "starts_at", "ends_at", "known_at", "made_at", "reason")
    inlines = (CorrectedInvoices,)
    actions_list = ("correct",)

    @action(description="Correct closed periods…", url_path="correction", permissions=("act",))
    def correct(self, request: HttpRequest) -> HttpResponse:
        """The form, what today's book makes of those invoices, and, once confirmed, the correction."""
        form = CorrectionForm(request.POST or None)
        found = None
        if form.is_valid():
            values = form.cleaned_data
            if request.POST.get("confirmed") == "yes" and _correct(request, values):
                return redirect(reverse("admin:billing_pricecorrection_changelist"))
            found = list(islice(differences(values["start"], values["end"], values["organisation"]), MOST_SHOWN + 1))
        context = {
            **self.admin_site.each_context(request),
            "title": "Correct the prices of closed periods",
            "opts": self.opts,
            "form": form,
            "found": None if found is None else found[:MOST_SHOWN],
            "is_too_much": found is not None and len(found) > MOST_SHOWN,
        }
        return TemplateResponse(request, "billing/admin/price_correction.html", context)


def _correct(request: HttpRequest, values: dict[str, Any]) -> bool:
    try:
        correct_prices(
            values["start"],
            values["end"],
            organisation=values["organisation"],
            reason=values["reason"],
            now=timezone.now(),
            actor=operator_of(request),
            request=request,
        )
    except DomainError as error:
        messages.error(request, error.sentence)
        return False
    messages.success(request, "The next invoices carry the differences.")
    return True
