"""The audit log of an organisation."""

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpResponse
from django.views.decorators.http import require_safe

from accounts.access import MemberRequest, member_required
from accounts.forms import AuditFilterForm
from accounts.models import AuditEntry, Capability
from accounts.pages import render_page

PER_PAGE = 50


@member_required(Capability.READ_AUDIT)
@require_safe
def audit(request: MemberRequest) -> HttpResponse:
    rows = AuditEntry.objects.for_organisation(request.organisation)
    form = AuditFilterForm(request.GET, actions=_values(rows, "action"), actors=_values(rows, "actor_label"))
    shown = rows
    if form.is_valid():
        if action := form.cleaned_data["action"]:
            shown = shown.filter(action=action)
        if actor := form.cleaned_data["actor"]:
            shown = shown.filter(actor_label=actor)
    page = Paginator(shown.select_related("actor"), PER_PAGE).get_page(request.GET.get("page"))
    context = {"page_obj": page, "form": form, "active_nav": "audit"}
    return render_page(request, "accounts/audit.html", context, part="audit-entries")


def _values(rows: QuerySet[AuditEntry], column: str) -> list[str]:
    return list(rows.order_by(column).values_list(column, flat=True).distinct()[:500])
