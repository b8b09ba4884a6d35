"""Limits: set, raised for a while and lifted; the calls that they refused.

Counters and holds have keys of several columns, which Django's admin cannot open.
"""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts.admin_rows import ReadOnlyAdmin, ReadOnlyInline, operator_of
from accounts.errors import DomainError
from accounts.models import ApiKey, Project
from metering.admin.leaked_holds import LeakedHoldPage
from metering.forms import LimitChangeForm, terms_of
from metering.limits_page import limit_in_words
from metering.models import AdmissionSettings, Denial, Measure, Quota, QuotaIncrease, QuotaScope, SetBy
from metering.quotas import QuotaSpec, add_increase, archive_quota, change_quota, define_quota

ASKING = "metering/admin/quota_asking.html"


class QuotaForm(forms.ModelForm):
    """A limit that an operator sets."""

    place = forms.CharField(
        label="Project or API key",
        required=False,
        max_length=64,
        widget=UnfoldAdminTextInputWidget,
        help_text="Its id, proj_… or key_…, where one of these is limited.",
    )

    class Meta:
        model = Quota
        fields = (
            *("organisation", "scope", "end_user", "measure", "meter", "currency", "window", "amount", "enforcement"),
            *("model_patterns", "thresholds"),
        )
        widgets = {"model_patterns": UnfoldAdminTextInputWidget, "thresholds": UnfoldAdminTextInputWidget}
        help_texts = {
            "end_user": "As the gateway names them, where an end user is limited; empty: each by themselves.",
            "amount": "In the meter's unit, in calls, or in the currency's major unit.",
            "model_patterns": "Such as gpt-*, with commas; empty: all.",
            "thresholds": "Percent of the limit at which the customer is told, with commas.",
        }

    # What `place` names, once the form is clean.
    limited: Project | ApiKey | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial.setdefault("thresholds", [])
        self.initial["thresholds"] = self.initial["thresholds"] or [80, 100]

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        organisation, scope, place = values.get("organisation"), values.get("scope"), values.get("place", "")
        if organisation is not None and scope == QuotaScope.PROJECT:
            self.limited = Project.objects.for_organisation(organisation).filter(public_id=place).first()
        if organisation is not None and scope == QuotaScope.API_KEY:
            self.limited = ApiKey.objects.for_organisation(organisation).filter(public_id=place).first()
        is_limited = scope in (QuotaScope.PROJECT, QuotaScope.API_KEY)
        if is_limited != bool(place) or (place and self.limited is None):
            self.add_error("place", "Name one of the organisation's where it is limited, and only there.")
        if values.get("end_user") and scope != QuotaScope.END_USER:
            self.add_error("end_user", "Name an end user where one is limited, and only there.")
        if (values.get("measure") == Measure.METER) != (values.get("meter") is not None):
            self.add_error("meter", "Name a meter where a meter is measured, and only there.")
        if (values.get("measure") == Measure.SPEND) != bool(values.get("currency")):
            self.add_error("currency", "Name a currency where spend is measured, and only there.")
        return values


class IncreaseForm(forms.Form):
    amount = forms.DecimalField(label="How much more", min_value=0, max_digits=24, decimal_places=6)
    ends_at = forms.DateTimeField(label="Until (UTC)", help_text="2026-12-01 00:00")
    reason = forms.CharField(label="Reason", required=False, max_length=300)


class IncreaseInline(ReadOnlyInline):
    model = QuotaIncrease
    fields = ("amount", "starts_at", "ends_at", "reason")


@admin.register(Quota)
class QuotaAdmin(LeakedHoldPage):
    form = QuotaForm
    list_display = ("public_id", "organisation", "limit", "scope", "enforcement", "set_by", "archived_at")
    list_filter = ("set_by", "measure", "window", "enforcement", ("archived_at", admin.EmptyFieldListFilter))
    list_select_related = ("organisation", "meter")
    search_fields = ("public_id", "organisation__slug", "organisation__public_id")
    inlines = (IncreaseInline,)
    actions_list = ("leaked_holds",)
    actions_detail = ("change_terms", "allow_more", "lift")

    def has_change_permission(self, request: HttpRequest, obj: Quota | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Quota | None = None) -> bool:
        return False

    def has_act_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("metering.change_quota")

    def get_fields(self, request: HttpRequest, obj: Quota | None = None) -> Any:
        if obj is None:
            return ("organisation", "scope", "place", *QuotaForm.Meta.fields[2:])
        return ("organisation", "limit", "whose", *QuotaForm.Meta.fields[-3:], "set_by", "created_at", "archived_at")

    def get_inlines(self, request: HttpRequest, obj: Quota | None) -> Any:
        return self.inlines if obj else ()

    def save_model(self, request: HttpRequest, obj: Quota, form: QuotaForm, change: bool) -> None:
        values = form.cleaned_data
        spec = QuotaSpec(
            measure=values["measure"],
            meter_key=values["meter"].key if values["meter"] else "",
            amount=values["amount"],
            window=values["window"],
            currency=values["currency"],
            enforcement=values["enforcement"],
            models=tuple(values["model_patterns"] or ()),
            thresholds=tuple(values["thresholds"] or ()),
            scope=values["scope"],
            project=form.limited if isinstance(form.limited, Project) else None,
            api_key=form.limited if isinstance(form.limited, ApiKey) else None,
            end_user=values["end_user"],
        )
        made = define_quota(
            values["organisation"],
            spec,
            set_by=SetBy.OPERATOR,
            now=timezone.now(),
            actor=operator_of(request),
            request=request,
        )
        obj.__dict__.update(made.__dict__)

    def add_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().add_view(request, *args, **kwargs)
        except DomainError as error:
            messages.error(request, error.sentence)
            return redirect(reverse("admin:metering_quota_add"))

    @display(description="Limit")
    def limit(self, quota: Quota) -> str:
        return str(quota)

    @display(description="In words")
    def whose(self, quota: Quota) -> str:
        return limit_in_words(quota)

    @action(description="Change…", url_path="terms", permissions=("act",))
    def change_terms(self, request: HttpRequest, object_id: str) -> HttpResponse:
        quota = get_object_or_404(Quota, pk=object_id, archived_at=None)
        if quota.set_by not in (SetBy.OPERATOR, SetBy.CUSTOMER):
            messages.error(request, "It comes with the plan or with credit: change those, or allow more for a while.")
            return redirect(reverse("admin:metering_quota_change", args=[quota.pk]))
        form = LimitChangeForm(request.POST or None, initial=terms_of(quota))
        if request.method == "POST" and form.is_valid():
            change_quota(quota, by_customer=False, actor=operator_of(request), request=request, **form.cleaned_data)
            messages.success(request, "It holds from the next call on.")
            return redirect(reverse("admin:metering_quota_change", args=[quota.pk]))
        return self._ask(request, quota, f"Change this limit of {quota.organisation}", form, "Change it")

    @action(description="Allow more for a while…", url_path="increase", permissions=("act",))
    def allow_more(self, request: HttpRequest, object_id: str) -> HttpResponse:
        quota = get_object_or_404(Quota, pk=object_id, archived_at=None)
        form = IncreaseForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                add_increase(
                    quota,
                    form.cleaned_data["amount"],
                    starts_at=timezone.now(),
                    ends_at=form.cleaned_data["ends_at"],
                    reason=form.cleaned_data["reason"],
                    actor=operator_of(request),
                    request=request,
                )
            except DomainError as error:
                form.add_error(None, error.sentence)
            else:
                messages.success(request, "It holds from the next call on, and ends by itself.")
                return redirect(reverse("admin:metering_quota_change", args=[quota.pk]))
        return self._ask(request, quota, f"Allow {quota.organisation} more for a while", form, "Allow it")

    @action(description="Lift…", url_path="lifting", permissions=("act",))
    def lift(self, request: HttpRequest, object_id: str) -> HttpResponse:
        quota = get_object_or_404(Quota, pk=object_id)
        if request.method == "POST":
            archive_quota(quota, by_customer=False, now=timezone.now(), actor=operator_of(request), request=request)
            messages.success(request, "The limit is lifted from the next call on.")
            return redirect(reverse("admin:metering_quota_changelist"))
        return self._ask(request, quota, f"Lift this limit of {quota.organisation}?", None, "Lift the limit")

    def _ask(self, request: HttpRequest, quota: Quota, title: str, form: forms.Form | None, verb: str) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "quota": quota,
            "form": form,
            "verb": verb,
        }
        return TemplateResponse(request, ASKING, context)


@admin.register(Denial)
class DenialAdmin(ReadOnlyAdmin):
    list_display = ("minute", "organisation", "code", "model", "end_user", "count", "message")
    list_filter = ("code",)
    list_select_related = ("organisation",)
    search_fields = ("organisation__slug", "organisation__public_id", "model", "end_user")
    date_hierarchy = "minute"


@admin.register(AdmissionSettings)
class AdmissionSettingsAdmin(ReadOnlyAdmin):
    list_display = ("organisation", "when_unreachable", "unreachable_amount", "unreachable_requests", "currency")
    list_select_related = ("organisation",)
    search_fields = ("organisation__slug", "organisation__public_id")
