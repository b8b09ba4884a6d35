"""Whether the ledger of credit adds up, night by night."""

from django.contrib import admin
from unfold.decorators import display

from accounts.admin_rows import ReadOnlyAdmin
from billing.models import CreditsCheck


@admin.register(CreditsCheck)
class CreditsCheckAdmin(ReadOnlyAdmin):
    list_display = ("started_at", "finished_at", "differences", "result")

    @display(description="Result", label={"right": "success", "wrong": "danger"})
    def result(self, check: CreditsCheck) -> str:
        return "wrong" if check.differences else "right"
