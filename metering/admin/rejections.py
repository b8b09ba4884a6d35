"""The work list of what was refused: look, repair and replay, dismiss. Every act is asked for on a page of its own."""

from dataclasses import replace
from itertools import cycle
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.text import Truncator
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from accounts.admin_rows import ReadOnlyAdmin, operator_of
from accounts.errors import DomainError
from metering.bars import COLOURS, stacked
from metering.body_repairs import Repair, make_repair, repaired, value_from
from metering.models import RejectedEvent
from metering.models.events import RejectionReason
from metering.repair import Replay, Tally, as_amendment, dismiss_all, replay, replay_all
from metering.reports.work_lists import DAYS, refused_per_day

# More at once is a job for the command replay_rejected, which shows its progress.
MOST_AT_ONCE = 5_000
# Rows named one by one: a form may have 1,000 fields.
MOST_NAMED = 500
CHART_DAYS = 30
EXAMPLES = 10
DETAIL_SHOWN = 90


class DismissalForm(forms.Form):
    reason = forms.CharField(
        label="Why they need no repair", max_length=500, widget=UnfoldAdminTextInputWidget({"autocomplete": "off"})
    )


class BulkReplayForm(forms.Form):
    backfill = forms.BooleanField(
        label="Take them even if they are older than the late window", required=False, widget=UnfoldBooleanWidget
    )


class BulkRepairForm(BulkReplayForm):
    """A replay with one member set, or one value put in the place of another; nothing said: as they are."""

    field_order = ("field", "was", "to", "backfill")

    field = forms.CharField(
        label="Member to repair, such as data.model; empty: replay them as they are",
        max_length=255,
        required=False,
        widget=UnfoldAdminTextInputWidget({"autocomplete": "off"}),
    )
    was = forms.CharField(
        label="Only where it is this; empty: whatever it is",
        max_length=1000,
        required=False,
        widget=UnfoldAdminTextInputWidget({"autocomplete": "off"}),
    )
    to = forms.CharField(
        label='The value it gets: a number, a text, or JSON such as "5" or null',
        max_length=1000,
        required=False,
        widget=UnfoldAdminTextInputWidget({"autocomplete": "off"}),
    )

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        return {**values, "repairs": self._repairs(values)}

    def _repairs(self, values: dict[str, Any]) -> list[Repair]:
        if not values.get("field"):
            if values.get("was") or values.get("to"):
                self.add_error("field", "Name the member that gets the value.")
            return []
        was = {"was": value_from(values["was"])} if values.get("was") else {}
        try:
            return [make_repair(values["field"], value_from(values.get("to", "")), **was)]
        except DomainError as error:
            self.add_error("field", error.sentence)
            return []


class ReplayForm(BulkReplayForm):
    field_order = ("body", "backfill")

    body = forms.CharField(label="The event", widget=UnfoldAdminTextareaWidget({"rows": 16, "spellcheck": "false"}))


@admin.register(RejectedEvent)
class RejectedEventAdmin(ReadOnlyAdmin):
    list_display = (
        "last_seen_at",
        "why",
        "in_short",
        "organisation",
        "source",
        "event_id",
        "seen_count",
        "shown_state",
    )
    list_select_related = ("organisation",)
    list_filter = ("state", "reason", ("organisation", admin.RelatedOnlyFieldListFilter), "format")
    date_hierarchy = "last_seen_at"
    search_fields = ("source", "event_id", "detail", "organisation__name", "organisation__slug")
    search_help_text = "Source, event id, words of the reason, organisation"
    show_full_result_count = False
    list_before_template = "metering/admin/refused_per_day.html"
    actions = ("replay_selected", "dismiss_selected")
    actions_detail = ("replay_this", "dismiss_this")

    @display(description="Reason", ordering="reason")
    def why(self, row: RejectedEvent) -> str:
        return row.get_reason_display()

    @display(description="Detail")
    def in_short(self, row: RejectedEvent) -> str:
        return Truncator(row.detail).chars(DETAIL_SHOWN)

    @display(description="State", label={"open": "warning", "replayed": "success", "dismissed": "info"})
    def shown_state(self, row: RejectedEvent) -> str:
        return row.state

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        days, refused = refused_per_day(timezone.now(), days=CHART_DAYS)
        chart = stacked([(row.label, row.counts) for row in refused], [f"{day:%-d %b}" for day in days])
        shown = [replace(row, counts=row.counts[-DAYS:]) for row in refused]
        more = {"days": days[-DAYS:], "refused": list(zip(shown, cycle(COLOURS), strict=False)), "chart": chart}
        return super().changelist_view(request, {**(extra_context or {}), **more, "chart_days": CHART_DAYS})

    # --- One ----------------------------------------------------------------------------------------------------------

    @action(description="Repair and replay…", url_path="replay", permissions=("act",))
    def replay_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self.get_object(request, object_id)
        if row is None or row.state != RejectedEvent.State.OPEN:
            return self._settled_already(request)
        amendment = as_amendment(row)
        body = amendment if request.GET.get("as") == "amendment" else row.body
        form = ReplayForm(request.POST or None, initial={"body": body})
        if request.method == "POST" and form.is_valid():
            values = form.cleaned_data
            edited = None if values["body"].replace("\r\n", "\n") == row.body else values["body"]
            done = replay(
                row,
                now=timezone.now(),
                actor=operator_of(request),
                body=edited,
                backfill=values["backfill"],
                request=request,
            )
            return _after_replay(request, done)
        links = {}
        if row.reason == RejectionReason.CONFLICT and amendment:
            links["Let it count in place of the accepted one"] = "?as=amendment"
        return self._ask(request, form, title="Repair and replay", label="Replay", rows=[row], links=links)

    @action(description="Dismiss…", url_path="dismissal", permissions=("act",))
    def dismiss_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        rows = RejectedEvent.objects.filter(pk=object_id, state=RejectedEvent.State.OPEN)
        if not rows:
            return self._settled_already(request)
        form = DismissalForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            self._dismiss(request, rows, form)
            return redirect(reverse("admin:metering_rejectedevent_changelist"))
        return self._ask(request, form, title="Dismiss", label="Dismiss", rows=list(rows))

    # --- Many ---------------------------------------------------------------------------------------------------------

    @admin.action(description="Replay…", permissions=("act",))
    def replay_selected(self, request: HttpRequest, rows: QuerySet[RejectedEvent]) -> HttpResponse | None:
        chosen = _bounded(rows)
        form = BulkRepairForm(request.POST if request.POST.get("confirmed") else None)
        if not form.is_valid() or "look" in request.POST:
            more = {"second_label": "Show what changes", "changes": _changes(form, chosen)}
            return self._ask_many(request, form, chosen, title="Replay", action="replay_selected", **more)
        options = {name: form.cleaned_data[name] for name in ("backfill", "repairs")} | {"request": request}
        *_, tally = Tally(), *replay_all(chosen, now=timezone.now(), actor=operator_of(request), **options)
        text = f"Accepted: {tally.accepted}, known already: {tally.duplicates}, refused again: {tally.refused}."
        (messages.warning if tally.refused else messages.success)(request, text)
        return None

    @admin.action(description="Dismiss…", permissions=("act",))
    def dismiss_selected(self, request: HttpRequest, rows: QuerySet[RejectedEvent]) -> HttpResponse | None:
        chosen = _bounded(rows)
        form = DismissalForm(request.POST if request.POST.get("confirmed") else None)
        if not form.is_valid():
            return self._ask_many(request, form, chosen, title="Dismiss", action="dismiss_selected")
        self._dismiss(request, chosen, form)
        return None

    # --- Asking -------------------------------------------------------------------------------------------------------

    def _dismiss(self, request: HttpRequest, rows: QuerySet[RejectedEvent], form: forms.Form) -> None:
        reason = form.cleaned_data["reason"]
        done = dismiss_all(rows, reason=reason, now=timezone.now(), actor=operator_of(request), request=request)
        messages.success(request, f"Dismissed: {done}.")

    def _ask_many(
        self,
        request: HttpRequest,
        form: forms.Form,
        rows: QuerySet[RejectedEvent],
        *,
        title: str,
        action: str,
        **more: Any,
    ) -> HttpResponse:
        hidden = [("action", action), ("confirmed", "yes")]
        named = [str(pk) for pk in rows.values_list("pk", flat=True)]
        if request.POST.get("select_across") == "1":
            # All that the list's filters let through, told by the address.
            hidden, named = [*hidden, ("select_across", "1")], named[:1]
        hidden += [(ACTION_CHECKBOX_NAME, pk) for pk in named[:MOST_NAMED]]
        return self._ask(request, form, title=title, label=title, rows=rows, hidden=hidden, **more)

    def _ask(self, request: HttpRequest, form: forms.Form, *, rows: Any, **shown: Any) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "form": form,
            "rows": rows[:50],
            "row_count": len(rows),
            **shown,
        }
        return TemplateResponse(request, "metering/admin/settling.html", context)

    def _settled_already(self, request: HttpRequest) -> HttpResponse:
        messages.warning(request, "It was replayed or dismissed already.")
        return redirect(reverse("admin:metering_rejectedevent_changelist"))


def _bounded(rows: QuerySet[RejectedEvent]) -> QuerySet[RejectedEvent]:
    """The open ones, as many as one request may take on; chosen anew, since a slice cannot be filtered further."""
    found = rows.filter(state=RejectedEvent.State.OPEN).order_by("pk").values_list("pk", flat=True)
    return RejectedEvent.objects.filter(pk__in=list(found[:MOST_AT_ONCE])).order_by("pk")


def _changes(form: forms.Form, rows: QuerySet[RejectedEvent]) -> dict[str, Any] | None:
    """What the repairs would change; None: none were said, or they make no sense."""
    if not form.is_valid() or not form.cleaned_data["repairs"]:
        return None
    pairs = [(row, repaired(row.body, form.cleaned_data["repairs"])) for row in rows]
    changed = [(row, after) for row, after in pairs if after is not None]
    return {"count": len(changed), "of": len(pairs), "examples": changed[:EXAMPLES]}


def _after_replay(request: HttpRequest, done: Replay) -> HttpResponse:
    if done.open_row is None:
        fed = f" It feeds {', '.join(done.verdict.meters)}." if done.verdict.meters else ""
        messages.success(request, f"Replayed: {done.verdict.verdict}.{fed}")
        return redirect(reverse("admin:metering_rejectedevent_changelist"))
    messages.error(request, f"Still {done.verdict.verdict}: {done.verdict.detail}")
    return redirect(reverse("admin:metering_rejectedevent_change", args=[done.open_row]))
