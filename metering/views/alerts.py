"""Alerts: what was crossed and when it was over, and how the organisation wants to hear of it."""

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.access import MemberRequest, member_required
from accounts.errors import DomainError
from accounts.models import Capability
from accounts.pages import render_page
from metering import alerts as alerts_verbs
from metering.alerting import recipients
from metering.forms import AlertSettingsForm
from metering.models import Alert

PER_PAGE = 50


@member_required()
@require_safe
def alerts(request: MemberRequest) -> HttpResponse:
    rows = Alert.objects.for_organisation(request.organisation)
    page = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
    context: dict[str, Any] = {
        "active_nav": "alerts",
        "page_obj": page,
        "settings": alerts_verbs.settings_of(request.organisation),
        "recipients": recipients(request.organisation),
        "zone": request.organisation.zone,
    }
    return render_page(request, "metering/alerts.html", context)


@member_required(Capability.MANAGE_LIMITS)
def alert_settings(request: MemberRequest) -> HttpResponse:
    settings = alerts_verbs.settings_of(request.organisation)
    form = AlertSettingsForm(request.POST or None, instance=settings)
    if request.method == "POST" and form.is_valid():
        try:
            alerts_verbs.change_settings(form.save(commit=False), actor=request.user, request=request)
        except DomainError as error:
            form.add_error(None, error.sentence)
        else:
            messages.success(request, "Saved.")
            return redirect("metering:alerts", slug=request.organisation.slug)
    context = {"active_nav": "alerts", "form": form, "settings": settings, "now": timezone.now()}
    return render_page(request, "metering/alert_settings.html", context)
