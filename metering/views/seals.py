"""The page of seals: the sealed days, the proof of one event, and the export to check at home."""

from datetime import date

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.access import MemberRequest, member_required
from accounts.errors import DomainError
from accounts.models import Organisation
from accounts.pages import render_page
from metering.exporting import CHECK_COMMAND, CHECK_PROOF_COMMAND, plan_export, proof_zip, zip_pieces
from metering.models import Seal
from metering.proofs import Proof, inclusion_proof
from metering.seal_forms import EventForm, ExportForm
from metering.sealing import newest_seal

PER_PAGE = 31


@member_required()
@require_safe
def seals(request: MemberRequest) -> HttpResponse:
    """The sealed days, and what can be shown about one event when the address names one."""
    is_asked = "id" in request.GET
    form = EventForm(request.GET if is_asked else None)
    found, refusal = _look_up(request.organisation, form) if is_asked else (None, "")
    page = Paginator(Seal.objects.for_organisation(request.organisation), PER_PAGE).get_page(request.GET.get("page"))
    head = newest_seal(request.organisation)
    context = {
        "active_nav": "usage",
        "page_obj": page,
        "head": head,
        "form": form,
        "proof": found,
        "refusal": refusal,
        "export_form": ExportForm(initial=_month_of(head)),
        "check_command": CHECK_COMMAND,
        "check_proof_command": CHECK_PROOF_COMMAND,
    }
    return render_page(request, "metering/seals.html", context, part="event-proof" if is_asked else None)


@member_required()
@require_safe
def export(request: MemberRequest) -> HttpResponseBase:
    """Events, seals and the verifier of a range of days as a ZIP, made while it is sent."""
    form = ExportForm(request.GET)
    now = timezone.now()
    try:
        if not form.is_valid():
            raise DomainError("Those are not days: choose them from the calendar, or leave them out.")
        plan = plan_export(request.organisation, now=now, **form.cleaned_data)
    except DomainError as error:
        messages.error(request, error.sentence)
        return redirect("metering:seals", slug=request.organisation.slug)
    response = StreamingHttpResponse(zip_pieces(plan, now), content_type="application/zip")
    name = f"events-{request.organisation.slug}-{plan.first}-to-{plan.last}.zip"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


@member_required()
@require_safe
def proof(request: MemberRequest) -> HttpResponse:
    """One event, its proof and the verifier as a ZIP."""
    found, refusal = _look_up(request.organisation, EventForm(request.GET))
    if found is None:
        messages.error(request, refusal or "Say both the source and the id, as your gateway sent them.")
        return redirect("metering:seals", slug=request.organisation.slug)
    response = HttpResponse(proof_zip(found, request.organisation), content_type="application/zip")
    name = f"proof-{request.organisation.slug}-{found.seal.day}-{found.index}.zip"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _look_up(organisation: Organisation, form: EventForm) -> tuple[Proof | None, str]:
    """The proof, or why there is none."""
    if not form.is_valid():
        return None, ""
    try:
        found = inclusion_proof(organisation, source=form.cleaned_data["source"], event_id=form.cleaned_data["id"])
    except DomainError as error:
        return None, error.sentence
    return found, ""


def _month_of(head: Seal | None) -> dict[str, date]:
    """The month of the newest seal: what somebody checks a bill by."""
    return {} if head is None else {"first": head.day.replace(day=1), "last": head.day}
