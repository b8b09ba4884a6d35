"""Which months of events were dropped, and where they were written to before."""

from django.contrib import admin

from accounts.admin_rows import ReadOnlyAdmin
from metering.models import DroppedMonth


@admin.register(DroppedMonth)
class DroppedMonthAdmin(ReadOnlyAdmin):
    list_display = ("month", "event_count", "archive", "dropped_at")
