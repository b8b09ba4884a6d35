"""Limits: what is used, held and left of each; set, changed and lifted; calls in flight, refusals, and a rehearsal."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.access import MemberRequest, member_required
from accounts.errors import DomainError
from accounts.models import ApiKey, Capability
from accounts.pages import render_page
from metering import quotas
from metering.admission import Admission, AdmissionRequest, would_admit
from metering.forms import AdmissionSettingsForm, LimitChangeForm, LimitForm, SimulationForm, terms_of
from metering.limits_page import LimitRow, calls_in_flight, limit_rows
from metering.models import AdmissionSettings, Denial, Measure, PriceEstimate, Quota, QuotaScope, SetBy, Window
from metering.quotas import QuotaSpec

PER_PAGE = 50


@member_required()
@require_safe
def limits(request: MemberRequest) -> HttpResponse:
    """Bars and calls in flight refresh themselves."""
    organisation, now = request.organisation, timezone.now()
    rows = limit_rows(organisation, now)
    context = {
        "active_nav": "limits",
        "rows": [(row, _change_form(row)) for row in rows],
        "holds": calls_in_flight(organisation, now),
        "denied": Denial.objects.for_organisation(organisation)[:5],
        "settings": AdmissionSettings.objects.filter(organisation=organisation).first(),
        "zone": organisation.zone,
    }
    return render_page(request, "metering/limits.html", context, part="live")


@member_required(Capability.MANAGE_LIMITS)
def limit_create(request: MemberRequest) -> HttpResponse:
    form = LimitForm(request.POST or None, organisation=request.organisation, currency=_currency(request))
    if request.method == "POST" and form.is_valid():
        try:
            quotas.define_quota(
                request.organisation,
                _spec(form),
                set_by=SetBy.CUSTOMER,
                now=timezone.now(),
                actor=request.user,
                request=request,
            )
        except DomainError as error:
            form.add_error(None, error.sentence)
        else:
            messages.success(request, "The limit holds from the next call on.")
            return redirect("metering:limits", slug=request.organisation.slug)
    context = {"active_nav": "limits", "form": form, "currency": _currency(request)}
    return render_page(request, "metering/limit_create.html", context)


@member_required(Capability.MANAGE_LIMITS)
def limit_change(request: MemberRequest, public_id: str) -> HttpResponse:
    """The inline form of one limit; by itself where there is no script."""
    quota = _quota(request, public_id)
    form = LimitChangeForm(request.POST or None, initial=terms_of(quota))
    if request.method == "POST" and form.is_valid():
        try:
            quotas.change_quota(quota, by_customer=True, actor=request.user, request=request, **form.cleaned_data)
        except DomainError as error:
            form.add_error(None, error.sentence)
        else:
            messages.success(request, "Changed. It holds from the next call on.")
            return redirect("metering:limits", slug=request.organisation.slug)
    context = {"active_nav": "limits", "form": form, "quota": quota}
    return render_page(request, "metering/limit_change.html", context)


@member_required(Capability.MANAGE_LIMITS)
def limit_removal(request: MemberRequest, public_id: str) -> HttpResponse:
    quota = _quota(request, public_id)
    if request.method == "POST":
        try:
            quotas.archive_quota(quota, by_customer=True, now=timezone.now(), actor=request.user, request=request)
        except DomainError as error:
            messages.error(request, error.sentence)
        else:
            messages.success(request, "The limit is lifted.")
        return redirect("metering:limits", slug=request.organisation.slug)
    cancel_url = reverse("metering:limits", kwargs={"slug": request.organisation.slug})
    context = {"active_nav": "limits", "quota": quota, "cancel_url": cancel_url}
    return render_page(request, "metering/limit_removal.html", context)


@member_required(Capability.MANAGE_LIMITS)
def admission_settings(request: MemberRequest) -> HttpResponse:
    """What gateways do while Kilotoken cannot be reached, and what calls are taken to need."""
    organisation = request.organisation
    kept = AdmissionSettings.objects.filter(organisation=organisation).first()
    form = AdmissionSettingsForm(request.POST or None, instance=kept or AdmissionSettings(organisation=organisation))
    if request.method == "POST" and form.is_valid():
        quotas.change_admission_settings(
            form.save(commit=False), currency=_currency(request), actor=request.user, request=request
        )
        messages.success(request, "Saved. Gateways learn of it with their next question.")
        return redirect("metering:limits", slug=organisation.slug)
    context = {"active_nav": "limits", "form": form}
    return render_page(request, "metering/admission_settings.html", context)


@member_required()
@require_safe
def denials(request: MemberRequest) -> HttpResponse:
    """Refused calls, newest first, by reason."""
    rows = Denial.objects.for_organisation(request.organisation)
    code = request.GET.get("code", "")
    codes = sorted(rows.order_by().values_list("code", flat=True).distinct())
    page = Paginator(rows.filter(code=code) if code in codes else rows, PER_PAGE).get_page(request.GET.get("page"))
    keys = dict(
        ApiKey.objects.for_organisation(request.organisation)
        .filter(pk__in={row.api_key_id for row in page})
        .values_list("pk", "name")
    )
    context = {
        "active_nav": "limits",
        "page_obj": page,
        "denials": [(row, keys.get(row.api_key_id, "")) for row in page],
        "codes": codes,
        "code": code,
        "days": settings.DENIALS_KEPT_DAYS,
        "zone": request.organisation.zone,
    }
    return render_page(request, "metering/denials.html", context)


@member_required()
@require_safe
def simulation(request: MemberRequest) -> HttpResponse:
    """Would this call be admitted, and why? The same decision as for a real one; nothing is held."""
    now = timezone.now()
    form = SimulationForm(request.GET or None, organisation=request.organisation)
    answer: Admission | None = None
    if form.is_valid():
        answer = _rehearse(request, form.cleaned_data, now)
    touched = answer.limits if answer else ()
    rows = {row.quota.public_id: row for row in limit_rows(request.organisation, now)} if touched else {}
    context = {
        "active_nav": "limits",
        "form": form,
        "answer": answer,
        "limits": [(limit, rows.get(limit.quota)) for limit in touched],
        "zone": request.organisation.zone,
    }
    return render_page(request, "metering/limit_simulation.html", context, part="answer")


def _rehearse(request: MemberRequest, asked: dict[str, Any], now: Any) -> Admission:
    key = ApiKey.objects.for_organisation(request.organisation).get(public_id=asked["key"])
    wanted = AdmissionRequest(
        call_id="rehearsal",
        key_digest=key.newest_secret.digest,
        model=asked["model"],
        end_user=asked["end_user"],
        client_ip=asked["address"] or None,
        prompt_tokens=asked["prompt"],
        max_tokens=asked["answer"],
    )
    return would_admit(wanted, now=now)


def _quota(request: MemberRequest, public_id: str) -> Quota:
    rows = Quota.objects.for_organisation(request.organisation).active().select_related("meter")
    quota = rows.filter(public_id=public_id).first()
    if quota is None:
        raise Http404("There is no such limit.")
    return quota


def _change_form(row: LimitRow) -> LimitChangeForm | None:
    if not row.is_own:
        return None
    return LimitChangeForm(initial=terms_of(row.quota), auto_id=f"id_{row.quota.public_id}_%s")


def _currency(request: MemberRequest) -> str:
    row = PriceEstimate.objects.filter(organisation=request.organisation).first()
    return row.currency if row else "USD"


def _spec(form: LimitForm) -> QuotaSpec:
    wanted = form.cleaned_data
    measure, _, meter_key = wanted["counts"].partition(":")
    place = wanted["applies_to"]
    key, project = form.keys.get(place), form.projects.get(place)
    scope = QuotaScope.API_KEY if key else QuotaScope.PROJECT if project else QuotaScope(place)
    return QuotaSpec(
        measure=measure,
        meter_key=meter_key,
        amount=wanted["amount"],
        window=Window.NONE if measure == Measure.CONCURRENT else wanted["window"],
        scope=scope,
        currency=form.currency if measure == Measure.SPEND else "",
        enforcement=wanted["enforcement"],
        models=wanted["models"],
        thresholds=wanted["thresholds"],
        project=project,
        api_key=key,
    )
