"""Batches as they came in and how far the totals are behind; events that feed no meter."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from unfold.decorators import action, display

from metering.admin.event_pages import EventPages
from metering.aggregation import lag
from metering.models import IngestBatch
from metering.reports.unmatched import unmatched_types


@admin.register(IngestBatch)
class IngestBatchAdmin(EventPages):
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

    @action(description="Events that feed no meter", url_path="unmatched", permissions=("view",))
    def unmatched(self, request: HttpRequest) -> HttpResponse:
        days, types = unmatched_types(timezone.now())
        context = {"title": "Events that feed no meter", "days": days, "types": types}
        return TemplateResponse(request, "metering/admin/unmatched.html", self.context(request, context))
