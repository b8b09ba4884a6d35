"""Meters: defined after a look at what they would read, changed for later events, archived rather than deleted."""

from collections.abc import Iterator
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.html import format_html_join
from unfold.decorators import display

from accounts.admin_rows import ReadOnlyAdmin, ReadOnlyInline, operator_of
from metering.admin.keeping_apart import KeepApartAction
from metering.admin.meter_forms import RULE, MeterForm
from metering.defining import archive_meter, define_meter, revise_meter, reword_meter, untouched_from
from metering.models import Meter, MeterRevision, SeriesLimit
from metering.previewing import preview_meter

# What totals are made of.
FIXED = ("key", "event_type", "value_field", "aggregation", "part_of")
CONFIRMED = "confirmed"
LOOK = "metering/admin/meter_preview.html"


class MeterRevisionInline(ReadOnlyInline):
    model = MeterRevision
    fields = ("effective_from", *RULE)
    verbose_name_plural = "Later definitions"


@admin.register(Meter)
class MeterAdmin(KeepApartAction):
    form = MeterForm
    list_display = ("name", "key", "event_type", "value_field", "aggregation", "unit", "state")
    list_filter = ("event_type", "aggregation", ("archived_at", admin.EmptyFieldListFilter))
    search_fields = ("key", "name", "event_type")
    actions = ("keep_apart_selected", "archive_selected")
    inlines = (MeterRevisionInline,)

    def has_delete_permission(self, request: HttpRequest, obj: Meter | None = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Meter | None = None) -> tuple[str, ...]:
        return (*FIXED, "first_definition", "created_at", "archived_at") if obj else ()

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        usual = {"effective_from": untouched_from(timezone.now()), "event_type": "ai.usage"}
        return {**usual, **super().get_changeform_initial_data(request)}

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Before a definition is saved, what it would read is shown."""
        if request.method == "POST" and CONFIRMED not in request.POST:
            meter = self.get_object(request, object_id) if object_id else None
            if object_id is None or meter is not None:
                form = self.get_form(request, meter)(request.POST, instance=meter)
                if form.is_valid() and (meter is None or form.changes_rule):
                    return self._look(request, form)
        return super().changeform_view(request, object_id, form_url, extra_context)

    def save_model(self, request: HttpRequest, obj: Meter, form: Any, change: bool) -> None:
        operator, now = operator_of(request), timezone.now()
        if not change:
            define_meter(obj, now=now, actor=operator, request=request)
            return
        meter = Meter.objects.get(pk=obj.pk)
        if words := form.words():
            reword_meter(meter, words, actor=operator, request=request)
        if form.changes_rule:
            rule = {name: form.cleaned_data[name] for name in RULE}
            instant = form.cleaned_data["effective_from"]
            revise_meter(meter, **rule, effective_from=instant, now=now, actor=operator, request=request)

    def _look(self, request: HttpRequest, form: MeterForm) -> TemplateResponse:
        meter = form.described()
        context = {
            **self.admin_site.each_context(request),
            "title": f"What {meter.name} would read",
            "opts": self.opts,
            "meter": meter,
            "effective_from": form.cleaned_data["effective_from"],
            "is_new": not form.instance.pk,
            "preview": preview_meter(meter),
            "hidden": list(_posted(request)),
        }
        return TemplateResponse(request, LOOK, context)

    @display(description="State", label={"active": "success", "archived": "warning"})
    def state(self, meter: Meter) -> str:
        return "active" if meter.archived_at is None else "archived"

    @display(description="First definition")
    def first_definition(self, meter: Meter) -> str:
        stored = Meter.objects.get(pk=meter.pk)
        facts = [("From", f"{stored.effective_from:%Y-%m-%d %H:%M} UTC")]
        facts += [(name.capitalize(), str(getattr(stored, name) or "none")) for name in RULE]
        return format_html_join("", "{}: {}<br>", facts)

    @admin.action(description="Archive: read nothing from now on", permissions=("change",))
    def archive_selected(self, request: HttpRequest, rows: QuerySet[Meter]) -> None:
        now, operator = timezone.now(), operator_of(request)
        done = sum(archive_meter(meter, now=now, actor=operator, request=request) for meter in rows)
        messages.success(request, f"Archived: {done}. Their totals stay.")


@admin.register(SeriesLimit)
class SeriesLimitAdmin(ReadOnlyAdmin):
    """Meters of organisations that got too many series: what their labels read since."""

    list_display = ("organisation", "meter", "series", "starts_at", "ends_at", "noticed_at")
    list_select_related = ("organisation", "meter")


def _posted(request: HttpRequest) -> Iterator[tuple[str, str]]:
    for name, values in request.POST.lists():
        if name not in {"csrfmiddlewaretoken", CONFIRMED}:
            yield from ((name, str(value)) for value in values)
