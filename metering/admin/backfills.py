"""Backfills of meters: started by an operator, and how far they are."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest
from django.utils import timezone
from unfold.decorators import display

from accounts.admin_rows import OperatorAdmin, operator_of
from accounts.enqueue import enqueue_on_commit
from accounts.errors import DomainError
from metering.backfilling import check_backfill, earliest_backfill, start_backfill
from metering.models import MeterBackfill
from metering.tasks import run_meter_backfills


class MeterBackfillForm(forms.ModelForm):
    class Meta:
        model = MeterBackfill
        fields = ("meter", "start")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if "start" in self.fields:
            earliest = earliest_backfill(timezone.now())
            bound = f" Before {earliest:%Y-%m-%d %H:%M} UTC usage is billed or no longer kept." if earliest else ""
            self.fields["start"].help_text = f"A quarter hour from which on the meter is to count.{bound}"

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not self.errors:
            try:
                check_backfill(cleaned["meter"], cleaned["start"], timezone.now())
            except DomainError as error:
                raise forms.ValidationError(error.sentence, code=error.code) from error
        return cleaned


@admin.register(MeterBackfill)
class MeterBackfillAdmin(OperatorAdmin):
    form = MeterBackfillForm
    list_display = ("meter", "start", "end", "progress", "totals", "state", "created_by", "created_at")
    list_select_related = ("meter",)

    def has_change_permission(self, request: HttpRequest, obj: MeterBackfill | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: MeterBackfill | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: MeterBackfill, form: Any, change: bool) -> None:
        started = start_backfill(obj.meter, obj.start, now=timezone.now(), actor=operator_of(request), request=request)
        obj.pk, obj.end = started.pk, started.end
        enqueue_on_commit(run_meter_backfills)
        messages.info(request, "The backfill runs; this list says how far it is.")

    @display(description="Organisations")
    def progress(self, row: MeterBackfill) -> str:
        at = f", at {row.done_until:%Y-%m-%d}" if row.done_until else ""
        return f"{row.organisations_done:,} of {row.organisations:,}{at}"

    @display(description="State", label={"done": "success", "running": "info"})
    def state(self, row: MeterBackfill) -> str:
        return "running" if row.finished_at is None else "done"
