"""Meters: defined once, reworded at will, archived rather than deleted."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.decorators import display

from accounts.admin_rows import OperatorAdmin, operator_of
from metering import quarter_hours
from metering.defining import archive_meter, define_meter, preview_meter
from metering.models import Meter

# What totals are made of, and the instant from which they count.
FIXED = ("key", "event_type", "value_field", "aggregation", "dimensions", "effective_from")


class MeterForm(forms.ModelForm):
    class Meta:
        model = Meter
        fields = (
            "key",
            "name",
            "description",
            "event_type",
            "value_field",
            "aggregation",
            "unit",
            "display_scale",
            "dimensions",
            "part_of",
            "position",
            "effective_from",
        )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if "effective_from" in self.fields:
            self.fields["effective_from"].help_text = (
                "Events before this instant do not feed the meter. For events that are in already, make the totals "
                "again afterwards with rebuild_totals."
            )


@admin.register(Meter)
class MeterAdmin(OperatorAdmin):
    form = MeterForm
    list_display = ("name", "key", "event_type", "value_field", "aggregation", "unit", "state")
    list_filter = ("event_type", ("archived_at", admin.EmptyFieldListFilter))
    search_fields = ("key", "name", "event_type")
    actions = ("archive_selected",)

    def has_delete_permission(self, request: HttpRequest, obj: Meter | None = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Meter | None = None) -> tuple[str, ...]:
        return (*FIXED, "created_at", "archived_at", "found") if obj else ()

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        usual = {"effective_from": quarter_hours.ceiling(timezone.now()), "event_type": "ai.usage"}
        return {**usual, **super().get_changeform_initial_data(request)}

    def save_model(self, request: HttpRequest, obj: Meter, form: forms.ModelForm, change: bool) -> None:
        define_meter(obj, actor=operator_of(request), request=request)
        if not change:
            messages.info(request, f"{obj.name}: {self.found(obj)}")

    @display(description="State", label={"active": "success", "archived": "warning"})
    def state(self, meter: Meter) -> str:
        return "active" if meter.archived_at is None else "archived"

    @display(description="In the latest events")
    def found(self, meter: Meter) -> str:
        preview = preview_meter(meter)
        if not preview.of_its_type:
            return f"none is of the type {meter.event_type} yet."
        return f"{preview.readable:,} of {preview.of_its_type:,} events of its type carry a value it can read."

    @admin.action(description="Archive: read nothing from now on", permissions=("change",))
    def archive_selected(self, request: HttpRequest, rows: QuerySet[Meter]) -> None:
        now, operator = timezone.now(), operator_of(request)
        done = sum(archive_meter(meter, now=now, actor=operator, request=request) for meter in rows)
        messages.success(request, f"Archived: {done}. Their totals stay.")
