"""Limits, the calls that they refused, and whether their counters are right. Limits are set in the portal, by plans and
through /v1/quotas. Counters and holds have keys of several columns, which Django's admin cannot open."""

from django.contrib import admin
from unfold.decorators import display

from accounts.admin_rows import ReadOnlyAdmin, ReadOnlyInline
from metering.models import AdmissionSettings, CountersCheck, Denial, Quota, QuotaIncrease


class IncreaseInline(ReadOnlyInline):
    model = QuotaIncrease
    fields = ("amount", "starts_at", "ends_at", "reason")


@admin.register(Quota)
class QuotaAdmin(ReadOnlyAdmin):
    list_display = ("public_id", "organisation", "limit", "scope", "enforcement", "set_by", "archived_at")
    list_filter = ("set_by", "measure", "window", "enforcement", ("archived_at", admin.EmptyFieldListFilter))
    list_select_related = ("organisation", "meter")
    search_fields = ("public_id", "organisation__slug", "organisation__public_id")
    inlines = (IncreaseInline,)

    @display(description="Limit")
    def limit(self, quota: Quota) -> str:
        return str(quota)


@admin.register(Denial)
class DenialAdmin(ReadOnlyAdmin):
    list_display = ("minute", "organisation", "code", "model", "end_user", "count", "message")
    list_filter = ("code",)
    list_select_related = ("organisation",)
    search_fields = ("organisation__slug", "organisation__public_id", "model", "end_user")
    date_hierarchy = "minute"


@admin.register(AdmissionSettings)
class AdmissionSettingsAdmin(ReadOnlyAdmin):
    list_display = ("organisation", "when_unreachable", "unreachable_amount", "unreachable_requests", "currency")
    list_select_related = ("organisation",)
    search_fields = ("organisation__slug", "organisation__public_id")


@admin.register(CountersCheck)
class CountersCheckAdmin(ReadOnlyAdmin):
    list_display = ("started_at", "finished_at", "differences", "result")

    @display(description="Result", label={"right": "success", "wrong": "danger"})
    def result(self, check: CountersCheck) -> str:
        return "wrong" if check.differences else "right"
