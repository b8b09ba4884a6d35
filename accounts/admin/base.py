"""What our admin pages share: read-only models, and asking before an act."""

from typing import Any

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin, TabularInline

# An act on more rows than this at once is a mistake or a job for a command.
MOST_AT_ONCE = 100


class ReadOnlyAdmin(ModelAdmin):
    """Rows may be looked at; what may be done to them are actions. Organisations' rows are never deleted."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_act_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the operator may run this model's actions: those who might change its rows."""
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")


class ReadOnlyInline(TabularInline):
    extra = 0
    can_delete = False
    tab = True
    per_page = 20

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def ask_first(
    model_admin: ModelAdmin,
    request: HttpRequest,
    rows: QuerySet[Any],
    *,
    action: str,
    heading: str,
    consequence: str,
    label: str,
) -> HttpResponse | None:
    """The page that asks, or None once the operator has said yes to exactly these rows."""
    if request.method == "POST" and request.POST.get("confirmed") == "yes":
        return None
    context = {
        **model_admin.admin_site.each_context(request),
        "title": heading,
        "opts": model_admin.opts,
        "rows": rows[:MOST_AT_ONCE],
        "action": action,
        "consequence": consequence,
        "label": label,
        "checkbox_name": ACTION_CHECKBOX_NAME,
    }
    return TemplateResponse(request, "accounts/admin_confirm.html", context)
