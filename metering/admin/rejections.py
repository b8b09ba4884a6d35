"""The work list of what was refused."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.admin_rows import ReadOnlyAdmin, operator_of
from metering.defining import dismiss_rejections
from metering.models import RejectedEvent

# More at once is a job for a filter and several rounds: each is written to the audit log.
MOST_AT_ONCE = 1000


@admin.register(RejectedEvent)
class RejectedEventAdmin(ReadOnlyAdmin):
    list_display = ("last_seen_at", "reason", "detail", "organisation", "source", "event_id", "seen_count", "state")
    list_select_related = ("organisation",)
    list_filter = ("state", "reason", "format")
    search_fields = ("source", "event_id", "detail", "organisation__name", "organisation__slug")
    search_help_text = "Source, event id, words of the reason, organisation"
    show_full_result_count = False
    actions = ("dismiss_selected",)

    @admin.action(description="Dismiss", permissions=("act",))
    def dismiss_selected(self, request: HttpRequest, rows: QuerySet[RejectedEvent]) -> None:
        chosen = rows.select_related("organisation")[:MOST_AT_ONCE]
        done = dismiss_rejections(chosen, actor=operator_of(request), request=request)
        messages.success(request, f"Dismissed: {done}.")
