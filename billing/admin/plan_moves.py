"""Moves of subscribers to another version: what it would cost each, how far it is, and holding it."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Count, Q, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminSplitDateTimeWidget, UnfoldBooleanWidget

from accounts.admin_rows import PagedInline, ReadOnlyAdmin, operator_of
from accounts.errors import DomainError
from billing import plan_moves
from billing.models import PlanMove, PlanMoveRow, PlanVersion
from billing.models.plan_moves import MoveRowState, MoveState
from billing.money import format_money


class MoveForm(forms.Form):
    to_version = forms.ModelChoiceField(PlanVersion.objects.none(), label="To", widget=UnfoldAdminSelectWidget)
    takes_effect_at = forms.SplitDateTimeField(
        label="On a date (empty: when each one's period ends)", required=False, widget=UnfoldAdminSplitDateTimeWidget
    )
    is_announced = forms.BooleanField(
        label="Tell each customer by e-mail once the change is made", required=False, widget=UnfoldBooleanWidget
    )

    def __init__(self, *args: Any, version: PlanVersion, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        fitting = PlanVersion.objects.to_give(version.plan.organisation).exclude(pk=version.pk)
        field = self.fields["to_version"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = fitting.filter(currency=version.currency, cadence=version.cadence)


class Rows(PagedInline):
    model = PlanMoveRow
    fields = readonly_fields = ("subscription", "state", "before", "after", "note", "moved_at", "announced_at")

    @display(description="Last period was")
    def before(self, row: PlanMoveRow) -> str:
        return _money(row, row.before_minor)

    @display(description="Would have been")
    def after(self, row: PlanMoveRow) -> str:
        return _money(row, row.after_minor)


@admin.register(PlanMove)
class PlanMoveAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "state", "takes_effect", "progress", "created_at")
    list_select_related = ("from_version__plan", "to_version__plan")
    fields = readonly_fields = (
        "public_id",
        "from_version",
        "to_version",
        "takes_effect",
        "takes_effect_at",
        "is_announced",
        "state",
        "progress",
        "figures",
        "created_at",
        "started_at",
        "finished_at",
    )
    inlines = (Rows,)
    actions_detail = ("start", "hold", "stop")

    def has_act_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("billing.change_planmove")

    @display(description="Progress")
    def progress(self, move: PlanMove) -> str:
        counts = dict(move.rows.order_by().values_list("state").annotate(Count("pk")))
        return ", ".join(f"{counts.get(state, 0):,} {state.label.lower()}" for state in MoveRowState)

    @display(description="Last periods of all")
    def figures(self, move: PlanMove) -> str:
        """What the last period of every subscriber came to, and would have."""
        sums = move.rows.aggregate(
            before=Sum("before_minor"), after=Sum("after_minor"), left=Count("pk", filter=Q(previewed_at=None))
        )
        currency = move.from_version.currency
        words = (
            f"{format_money(sums['before'] or 0, currency)} was, {format_money(sums['after'] or 0, currency)} would be"
        )
        return f"{words}; {sums['left']:,} still to be computed" if sums["left"] else words

    @action(description="Start or go on", url_path="start", permissions=("act",))
    def start(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return _step(request, object_id, MoveState.RUNNING)

    @action(description="Pause", url_path="hold", permissions=("act",))
    def hold(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return _step(request, object_id, MoveState.PAUSED)

    @action(description="Cancel what is left", url_path="stop", permissions=("act",))
    def stop(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return _step(request, object_id, MoveState.CANCELLED)


def plan_move_page(model_admin: Any, request: HttpRequest, version: PlanVersion) -> HttpResponse:
    """The form that plans a move of a version's subscribers."""
    form = MoveForm(request.POST if request.method == "POST" else None, version=version)
    if form.is_valid():
        try:
            move = plan_moves.plan_move(
                version, **form.cleaned_data, now=timezone.now(), actor=operator_of(request), request=request
            )
        except DomainError as error:
            messages.error(request, error.sentence)
        else:
            messages.success(request, "Planned. Nothing changes before you start it; the preview is being computed.")
            return redirect(reverse("admin:billing_planmove_change", args=[move.pk]))
    context = {
        **model_admin.admin_site.each_context(request),
        "title": f"Move the subscribers of {version}",
        "opts": model_admin.opts,
        "form": form,
        "label": "Plan the move",
        "back": version,
    }
    return TemplateResponse(request, "billing/admin/version_act.html", context)


STEP_WORDS = {
    MoveState.RUNNING: ("Start moving?", "Each subscriber waiting is put on the other version.", "Start"),
    MoveState.PAUSED: ("Pause the move?", "Who was moved stays moved; the rest waits.", "Pause"),
    MoveState.CANCELLED: ("Cancel what is left?", "Who was moved stays moved; the rest stays as it is.", "Cancel it"),
}


def _step(request: HttpRequest, object_id: str, state: MoveState) -> HttpResponse:
    move = get_object_or_404(PlanMove, pk=object_id)
    if request.method != "POST" or request.POST.get("confirmed") != "yes":
        heading, consequence, label = STEP_WORDS[state]
        context = {
            **admin.site.each_context(request),
            "title": heading,
            "opts": PlanMove._meta,
            "rows": [move],
            "consequence": consequence,
            "label": label,
        }
        return TemplateResponse(request, "accounts/admin_confirm.html", context)
    try:
        plan_moves.set_state(move, state, now=timezone.now(), actor=operator_of(request), request=request)
        messages.success(request, f"{move}: {state.label.lower()}.")
    except DomainError as error:
        messages.error(request, error.sentence)
    return redirect(reverse("admin:billing_planmove_change", args=[move.pk]))


def _money(row: PlanMoveRow, minor: int | None) -> str:
    return "–" if minor is None else format_money(minor, row.subscription.currency)
