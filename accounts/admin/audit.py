"""The audit log of all organisations and of the installation itself."""

from django.contrib import admin
from unfold.decorators import display

from accounts.admin_rows import ReadOnlyAdmin
from accounts.models import AuditEntry


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "action", "subject_label", "actor_label", "organisation", "ip_address")
    list_select_related = ("organisation",)
    list_filter = ("action",)
    search_fields = ("subject_id", "subject_label", "actor_label", "organisation__name", "organisation__slug")
    fields = (
        "created_at",
        "action",
        "organisation",
        "actor",
        "actor_label",
        "subject_id",
        "subject_label",
        "changes",
        "ip_address",
    )
    show_full_result_count = False

    @display(description="Details")
    def changes(self, entry: AuditEntry) -> str:
        return "; ".join(entry.detail_lines)
