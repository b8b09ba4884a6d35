"""Asking before an act."""

from typing import Any

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin

# An act on more rows than this at once is a mistake or a job for a command.
MOST_AT_ONCE = 100
LONGEST_REASON = 200


def ask_first(
    model_admin: ModelAdmin,
    request: HttpRequest,
    rows: QuerySet[Any],
    *,
    action: str,
    heading: str,
    consequence: str,
    label: str,
    reason: str = "",
) -> HttpResponse | None:
    """The page that asks, or None once the operator has said yes to exactly these rows.

    With `reason`, which says what for, the operator must also give one; see `reason_given`.
    """
    is_answered = request.method == "POST" and request.POST.get("confirmed") == "yes"
    if is_answered and (reason_given(request) or not reason):
        return None
    context = {
        **model_admin.admin_site.each_context(request),
        "title": heading,
        "opts": model_admin.opts,
        "rows": rows[:MOST_AT_ONCE],
        "action": action,
        "consequence": consequence,
        "label": label,
        "reason": reason,
        "is_reason_missing": is_answered,
        "longest_reason": LONGEST_REASON,
        "checkbox_name": ACTION_CHECKBOX_NAME,
    }
    return TemplateResponse(request, "accounts/admin_confirm.html", context)


def reason_given(request: HttpRequest) -> str:
    """What the operator gave as the reason."""
    return " ".join(request.POST.get("reason", "").split())[:LONGEST_REASON]
