"""Batches as they came in and how far the totals are behind; events that no meter reads; one event, and voiding it."""

from typing import Any

import msgspec
from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.http import urlencode
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from accounts.admin_rows import ReadOnlyAdmin, operator_of
from metering.admin.naming import OrganisationField
from metering.aggregation import lag
from metering.event_lookup import look_up_event
from metering.models import IngestBatch
from metering.repair import void_event
from metering.reports.work_lists import unmatched_types


class EventForm(forms.Form):
    """Names an event, as the sender does."""

    organisation = OrganisationField()
    source = forms.CharField(max_length=255, strip=False, widget=UnfoldAdminTextInputWidget)
    id = forms.CharField(max_length=255, strip=False, widget=UnfoldAdminTextInputWidget)


class VoidForm(forms.Form):
    reason = forms.CharField(label="Why it is taken back", max_length=500, widget=UnfoldAdminTextInputWidget)
    backfill = forms.BooleanField(
        label="Also if it is older than the late window; no invoice will take the difference up by itself",
        required=False,
        widget=UnfoldBooleanWidget,
    )


@admin.register(IngestBatch)
class IngestBatchAdmin(ReadOnlyAdmin):
    list_display = ("id", "organisation", "received_at", "format", "event_count", "unmatched_count", "state")
    list_select_related = ("organisation",)
    list_filter = (("folded_at", admin.EmptyFieldListFilter), "format")
    search_fields = ("organisation__name", "organisation__slug", "organisation__public_id")
    ordering = ("-id",)
    show_full_result_count = False
    actions_list = ("find_event", "unmatched")

    @display(description="In the totals", label={"yes": "success", "pending": "warning"})
    def state(self, batch: IngestBatch) -> str:
        return "pending" if batch.folded_at is None else "yes"

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        behind = lag(timezone.now())
        title = "Batches: everything is in the totals"
        if behind.pending_batches:
            title = f"Batches: {behind.pending_events:,} events pending, the oldest for {behind.oldest_seconds:.0f} s"
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def get_urls(self) -> list[URLPattern]:
        own = path("events/void/", self.admin_site.admin_view(self.void), name="metering_ingestbatch_void")
        return [own, *super().get_urls()]

    @action(description="Find an event…", url_path="events", permissions=("view",))
    def find_event(self, request: HttpRequest) -> HttpResponse:
        """One event by its name, and everything that was sent under it."""
        form = EventForm(request.GET or None)
        return self._event_page(request, form, VoidForm())

    @action(description="Events that no meter reads", url_path="unmatched", permissions=("view",))
    def unmatched(self, request: HttpRequest) -> HttpResponse:
        days, types = unmatched_types(timezone.now())
        context = {"title": "Events that no meter reads", "days": days, "types": types}
        return TemplateResponse(request, "metering/admin/unmatched.html", self._context(request, context))

    def void(self, request: HttpRequest) -> HttpResponse:
        """Takes an event back, once a reason was given on the event's page."""
        if not self.has_act_permission(request):
            raise PermissionDenied
        event, asked = EventForm(request.POST or None), VoidForm(request.POST or None)
        if not (event.is_valid() and asked.is_valid()):
            return self._event_page(request, event, asked)
        named = event.cleaned_data
        verdict = void_event(
            named["organisation"],
            source=named["source"],
            event_id=named["id"],
            reason=asked.cleaned_data["reason"],
            backfill=asked.cleaned_data["backfill"],
            now=timezone.now(),
            actor=operator_of(request),
            request=request,
        )
        if verdict.verdict in {"accepted", "duplicate"}:
            messages.success(request, "The event is void. Totals follow within seconds; both events stay visible.")
        else:
            messages.error(request, f"It was not voided: {verdict.detail}")
        query = {"organisation": named["organisation"].slug, "source": named["source"], "id": named["id"]}
        return redirect(f"{reverse('admin:metering_ingestbatch_find_event')}?{urlencode(query)}")

    def _event_page(self, request: HttpRequest, form: EventForm, void_form: VoidForm) -> HttpResponse:
        facts = None
        if form.is_valid() and "\x00" not in form.cleaned_data["source"] + form.cleaned_data["id"]:
            named = form.cleaned_data
            facts = look_up_event(
                named["organisation"], source=named["source"], event_id=named["id"], with_unattributed=True
            )
        shown = {
            "title": "Find an event",
            "form": form,
            "void_form": void_form,
            "facts": facts,
            "event_data": _as_json(facts.acceptance.data) if facts and facts.acceptance else "",
            "may_void": self.has_act_permission(request),
        }
        return TemplateResponse(request, "metering/admin/event.html", self._context(request, shown))

    def _context(self, request: HttpRequest, shown: dict[str, Any]) -> dict[str, Any]:
        return {**self.admin_site.each_context(request), "opts": self.opts, **shown}


def _as_json(data: dict[str, Any]) -> str:
    return msgspec.json.format(msgspec.json.Encoder(decimal_format="number").encode(data), indent=2).decode()
