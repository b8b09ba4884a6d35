"""Whether totals are what events say, night by night."""

from django.contrib import admin
from unfold.decorators import display

from accounts.admin_rows import ReadOnlyAdmin
from metering.models import TotalsCheck


@admin.register(TotalsCheck)
class TotalsCheckAdmin(ReadOnlyAdmin):
    list_display = ("started_at", "finished_at", "differences", "result", "backfills", "events_kept_from")

    @display(description="Result", label={"right": "success", "wrong": "danger"})
    def result(self, check: TotalsCheck) -> str:
        return "wrong" if check.differences else "right"
