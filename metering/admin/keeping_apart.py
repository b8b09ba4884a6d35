"""Several meters at once: what they keep apart from now on, asked for on a page of its own."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from unfold.widgets import UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from accounts.admin_rows import OperatorAdmin, operator_of
from accounts.errors import DomainError
from metering.keeping_apart import keep_apart
from metering.models import Meter

MOST_BOUNDS = 10


class KeepApartForm(forms.Form):
    service_tier = forms.BooleanField(
        label="Service tier: batch, priority, flex", required=False, widget=UnfoldBooleanWidget
    )
    cache_ttl = forms.BooleanField(
        label="Lifetime of the cache: 5m, 1h. For cache writes, where senders say it",
        required=False,
        widget=UnfoldBooleanWidget,
    )
    region = forms.BooleanField(label="Region", required=False, widget=UnfoldBooleanWidget)
    context = forms.CharField(
        label="Length of the context, cut at these numbers of tokens: 128000, 200000. For tokens only",
        required=False,
        widget=UnfoldAdminTextInputWidget,
    )

    def clean_context(self) -> list[int]:
        texts = self.cleaned_data["context"].replace(",", " ").split()
        if len(texts) > MOST_BOUNDS or not all(text.isascii() and text.isdigit() and len(text) < 10 for text in texts):
            raise forms.ValidationError(f"Give up to {MOST_BOUNDS} whole numbers of tokens, with commas.")
        bounds = [int(text) for text in texts]
        if 0 in bounds:
            raise forms.ValidationError("A context is cut at more than 0 tokens.")
        return bounds

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not self.errors and not any(cleaned.values()):
            raise forms.ValidationError("Choose something to keep apart.")
        return cleaned

    @property
    def names(self) -> list[str]:
        return [name for name in ("service_tier", "cache_ttl", "region") if self.cleaned_data[name]]


class KeepApartAction(OperatorAdmin):
    @admin.action(description="Keep apart what prices ask for…", permissions=("change",))
    def keep_apart_selected(self, request: HttpRequest, rows: QuerySet[Meter]) -> HttpResponse | None:
        meters = list(rows.order_by("position", "pk"))
        form = KeepApartForm(request.POST if "keep" in request.POST else None)
        if form.is_valid() and self._keep(request, meters, form):
            return None
        context = {
            **self.admin_site.each_context(request),
            "title": "What these meters keep apart from now on",
            "opts": self.opts,
            "meters": meters,
            "form": form,
            "checkbox": ACTION_CHECKBOX_NAME,
        }
        return TemplateResponse(request, "metering/admin/keeping_apart.html", context)

    def _keep(self, request: HttpRequest, meters: list[Meter], form: KeepApartForm) -> bool:
        try:
            made = keep_apart(
                meters,
                names=form.names,
                context_bounds=form.cleaned_data["context"],
                now=timezone.now(),
                actor=operator_of(request),
                request=request,
            )
        except DomainError as error:
            form.add_error(None, error.sentence)
            return False
        if made:
            at = f"{made[0].effective_from:%Y-%m-%d %H:%M} UTC"
            messages.success(request, f"{len(made)} meters keep it apart from {at} on. Totals of before stay.")
        else:
            messages.info(request, "They keep it apart already.")
        return True
