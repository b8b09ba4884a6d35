"""One event as operators find it: what became of it, and voiding or amending it, asked for before it is done."""

from typing import Any

import msgspec
from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.http import urlencode
from unfold.decorators import action
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from accounts.admin_rows import ReadOnlyAdmin, operator_of
from accounts.errors import DomainError
from metering.admin.naming import OrganisationField
from metering.event_lookup import EventFacts, look_up_event
from metering.intake import Verdict
from metering.operator_corrections import Difference, amend_event, data_from, differences, void_event


class EventForm(forms.Form):
    """Names an event, as the sender does."""

    organisation = OrganisationField()
    source = forms.CharField(max_length=255, strip=False, widget=UnfoldAdminTextInputWidget)
    id = forms.CharField(max_length=255, strip=False, widget=UnfoldAdminTextInputWidget)

    @property
    def named(self) -> dict[str, Any]:
        """Source and id as the verbs take them."""
        return {"source": self.cleaned_data["source"], "event_id": self.cleaned_data["id"]}


class VoidForm(forms.Form):
    reason = forms.CharField(label="Why it is taken back", max_length=500, widget=UnfoldAdminTextInputWidget)
    backfill = forms.BooleanField(
        label="Also if it is older than the late window; no invoice will take the difference up by itself",
        required=False,
        widget=UnfoldBooleanWidget,
    )


class AmendmentForm(VoidForm):
    field_order = ("figures", "reason", "backfill")

    figures = forms.CharField(
        label="What counts instead, whole", widget=UnfoldAdminTextareaWidget({"rows": 12, "spellcheck": "false"})
    )
    reason = forms.CharField(label="Why it is amended", max_length=500, widget=UnfoldAdminTextInputWidget)

    def clean_figures(self) -> dict[str, Any]:
        try:
            return data_from(self.cleaned_data["figures"])
        except DomainError as error:
            raise forms.ValidationError(error.sentence) from error


class EventPages(ReadOnlyAdmin):
    """Pages about one event, for the admin of the batches that events come in."""

    def get_urls(self) -> list[URLPattern]:
        pages = {"void": self.void, "amend": self.amend}
        own = [
            path(f"events/{name}/", self.admin_site.admin_view(view), name=f"metering_ingestbatch_{name}")
            for name, view in pages.items()
        ]
        return [*own, *super().get_urls()]

    @action(description="Find an event…", url_path="events", permissions=("view",))
    def find_event(self, request: HttpRequest) -> HttpResponse:
        """One event by its name, and everything that was sent under it."""
        return self._event_page(request, EventForm(request.GET or None), VoidForm())

    def void(self, request: HttpRequest) -> HttpResponse:
        """Takes an event back, once a reason was given on the event's page."""
        self._require_act(request)
        event, asked = EventForm(request.POST or None), VoidForm(request.POST or None)
        if not (event.is_valid() and asked.is_valid()):
            return self._event_page(request, event, asked)
        verdict = void_event(event.cleaned_data["organisation"], **event.named, **self._terms(request, asked))
        return self._told(request, event, verdict, "The event is void.")

    def amend(self, request: HttpRequest) -> HttpResponse:
        """Lets other data count in place of an event's: shows what that changes, and does it once confirmed."""
        self._require_act(request)
        event = EventForm(request.POST or request.GET or None)
        facts = _facts(event)
        if facts is None or facts.acceptance is None or facts.acceptance.corrected_by:
            messages.error(request, "That event was not accepted, or is corrected already.")
            return redirect(reverse("admin:metering_ingestbatch_find_event"))
        asked = AmendmentForm(request.POST or None, initial={"figures": as_json(facts.acceptance.data)})
        changes: tuple[Difference, ...] | None = None
        if asked.is_bound and asked.is_valid():
            organisation, data = event.cleaned_data["organisation"], asked.cleaned_data["figures"]
            if "amend" in request.POST:
                verdict = amend_event(organisation, **event.named, data=data, **self._terms(request, asked))
                return self._told(request, event, verdict, "The event is amended.")
            changes = differences(organisation, **event.named, data=data)
        shown = {"title": "Amend an event", "event": event, "form": asked, "facts": facts, "changes": changes}
        return TemplateResponse(request, "metering/admin/amendment.html", self.context(request, shown))

    def context(self, request: HttpRequest, shown: dict[str, Any]) -> dict[str, Any]:
        return {**self.admin_site.each_context(request), "opts": self.opts, **shown}

    def _event_page(self, request: HttpRequest, form: EventForm, void_form: VoidForm) -> HttpResponse:
        facts = _facts(form)
        shown = {
            "title": "Find an event",
            "form": form,
            "void_form": void_form,
            "facts": facts,
            "event_data": as_json(facts.acceptance.data) if facts and facts.acceptance else "",
            "may_void": self.has_act_permission(request),
        }
        return TemplateResponse(request, "metering/admin/event.html", self.context(request, shown))

    def _require_act(self, request: HttpRequest) -> None:
        if not self.has_act_permission(request):
            raise PermissionDenied

    def _terms(self, request: HttpRequest, asked: VoidForm) -> dict[str, Any]:
        values = asked.cleaned_data
        terms = {"reason": values["reason"], "backfill": values["backfill"], "now": timezone.now()}
        return {**terms, "actor": operator_of(request), "request": request}

    def _told(self, request: HttpRequest, event: EventForm, verdict: Verdict, done: str) -> HttpResponse:
        if verdict.verdict in {"accepted", "duplicate"}:
            messages.success(request, f"{done} Totals follow within seconds; both events stay visible.")
        else:
            messages.error(request, f"Nothing was changed: {verdict.detail}")
        named = event.cleaned_data
        query = {"organisation": named["organisation"].slug, "source": named["source"], "id": named["id"]}
        return redirect(f"{reverse('admin:metering_ingestbatch_find_event')}?{urlencode(query)}")


def _facts(form: EventForm) -> EventFacts | None:
    if not form.is_valid() or "\x00" in form.cleaned_data["source"] + form.cleaned_data["id"]:
        return None
    return look_up_event(form.cleaned_data["organisation"], **form.named, with_unattributed=True)


def as_json(data: dict[str, Any]) -> str:
    return msgspec.json.format(msgspec.json.Encoder(decimal_format="number").encode(data), indent=2).decode()
