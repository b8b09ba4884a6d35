"""Plans and their versions. A published version is never changed; a new one starts as its copy."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminSelectWidget

from accounts.admin_rows import OperatorAdmin, ReadOnlyInline, operator_of
from accounts.errors import DomainError
from accounts.models import Organisation
from billing import catalogue, plan_limits, plan_words
from billing.admin.plan_moves import plan_move_page
from billing.admin.row_fields import LimitsField
from billing.draft_previews import preview_version
from billing.included_credit import require_sound_credit
from billing.models import ComponentKind, Plan, PlanVersion, PriceComponent
from billing.subscribing import current_subscription


class Versions(ReadOnlyInline):
    model = PlanVersion
    fields = readonly_fields = ("number", "currency", "cadence", "created_at", "published_at")
    show_change_link = True


@admin.register(Plan)
class PlanAdmin(OperatorAdmin):
    list_display = ("name", "key", "on_offer", "organisation", "newest", "position")
    list_select_related = ("organisation",)
    search_fields = ("name", "key")
    fields = ("key", "name", "description", "is_public", "organisation", "position", "archived_at")
    autocomplete_fields = ("organisation",)
    inlines = (Versions,)
    actions_detail = ("new_version",)

    def get_readonly_fields(self, request: HttpRequest, obj: Plan | None = None) -> Any:
        return ("key",) if obj else ()

    def get_inlines(self, request: HttpRequest, obj: Plan | None) -> Any:
        return self.inlines if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Plan, form: forms.ModelForm, change: bool) -> None:
        catalogue.save_plan(obj, actor=operator_of(request), request=request)

    @display(description="On offer", boolean=True)
    def on_offer(self, plan: Plan) -> bool:
        return plan.is_public and plan.archived_at is None and plan.current_version() is not None

    @display(description="Newest published version")
    def newest(self, plan: Plan) -> str:
        version = plan.current_version()
        return f"{version.number}, {version.currency}" if version else "none"

    @action(description="New version", url_path="new-version", permissions=("change",))
    def new_version(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """A draft: a copy of the newest version, or an empty one in US dollars."""
        plan = get_object_or_404(Plan, pk=object_id)
        if not _is_confirmed(request):
            consequence = "It starts as a copy of the newest version: a draft that nobody sees until it is published."
            return _ask(self, request, f"New version of {plan}?", [], consequence, "Make a draft")
        newest = plan.versions.order_by("-number").first()
        draft = catalogue.copy_version(newest) if newest else catalogue.draft_version(plan, currency="USD")
        messages.success(request, f"Version {draft.number} is a draft. Change it, then publish it.")
        return redirect(reverse("admin:billing_planversion_change", args=[draft.pk]))


class VersionForm(forms.ModelForm):
    limits = LimitsField(help_text="Written into metering while the plan holds. A customer can only set lower ones.")

    class Meta:
        model = PlanVersion
        fields = ("currency", "cadence", "trial_days", *catalogue.CREDIT, "allowed_models", "limits")
        labels = {
            "credit_amount": "Credit included",
            "credit_priority": "Its priority",
            "credit_rolls_for": "More periods it stays for",
            "credit_most_rolled": "At most that stays",
        }
        help_texts = {
            "cadence": "How long a period is: month, year, 3 months, 2 weeks.",
            "credit_amount": "Granted whole when a period begins, in the version's currency. Empty: none.",
            "credit_priority": "The smallest number is used first; what is granted by hand has 100.",
            "credit_rolls_for": "0: what is left ends with the period.",
            "credit_most_rolled": "Of all that is left, what goes into the next period. Empty: all.",
            "trial_days": "Nothing is charged for so many days; once per organisation.",
            "allowed_models": "Models that may be used, with commas, by name or pattern: claude-*. Empty: all.",
        }

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not self.errors:
            try:
                plan_limits.require_sound(cleaned["limits"], cleaned["allowed_models"])
                require_sound_credit(*(cleaned[name] for name in catalogue.CREDIT))
            except DomainError as error:
                raise forms.ValidationError(error.sentence, code=error.code) from error
        return cleaned


class Components(ReadOnlyInline):
    model = PriceComponent
    fields = readonly_fields = ("position", "label", "kind", "in_words")
    show_change_link = True

    @display(description="Charges")
    def in_words(self, component: PriceComponent) -> str:
        words = plan_words.component_in_words(component)
        return "; ".join((words.price, *words.details))


class PreviewForm(forms.Form):
    organisation = forms.ModelChoiceField(Organisation.objects.order_by("name"), widget=UnfoldAdminSelectWidget)


@admin.register(PlanVersion)
class PlanVersionAdmin(OperatorAdmin):
    list_display = ("plan", "number", "currency", "cadence", "state", "published_at")
    list_filter = ("plan", "currency")
    list_select_related = ("plan",)
    form = VersionForm
    fields = ("plan", "number", *VersionForm.Meta.fields, "published_at")
    readonly_fields = ("plan", "number", "published_at")
    inlines = (Components,)
    actions_detail = ("add_component", "preview", "move_subscribers", "publish")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: PlanVersion | None = None) -> bool:
        return _is_draft(obj) and super().has_change_permission(request, obj)

    def has_publish_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("billing.change_planversion")

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    @display(description="State", label={"draft": "warning", "published": "success"})
    def state(self, version: PlanVersion) -> str:
        return "draft" if version.published_at is None else "published"

    @action(description="Add a component…", url_path="components", permissions=("publish",))
    def add_component(self, request: HttpRequest, object_id: str) -> HttpResponse:
        version = get_object_or_404(PlanVersion, pk=object_id)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Add a component to {version}",
            "opts": self.opts,
            "version": version,
            "kinds": ComponentKind.choices,
        }
        return TemplateResponse(request, "billing/admin/component_kinds.html", context)

    @action(description="Preview on an organisation…", url_path="preview", permissions=("publish",))
    def preview(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """What the version would have made of an organisation's last three periods."""
        version = get_object_or_404(PlanVersion.objects.select_related("plan"), pk=object_id)
        form = PreviewForm(request.GET if "organisation" in request.GET else None)
        periods, obstacle, subscription = [], "", None
        if form.is_valid():
            now = timezone.now()
            subscription = current_subscription(form.cleaned_data["organisation"], now)
            try:
                periods = preview_version(subscription, version, now) if subscription else []
            except DomainError as error:
                obstacle = error.sentence
            obstacle = obstacle or ("" if periods else "It has no period that ended to look at.")
        context = {
            **self.admin_site.each_context(request),
            "title": f"What {version} would have cost",
            "opts": self.opts,
            "version": version,
            "form": form,
            "subscription": subscription,
            "periods": periods,
            "obstacle": obstacle,
        }
        return TemplateResponse(request, "billing/admin/version_preview.html", context)

    @action(description="Move its subscribers…", url_path="move", permissions=("publish",))
    def move_subscribers(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return plan_move_page(self, request, get_object_or_404(PlanVersion, pk=object_id))

    @action(description="Publish", url_path="publication", permissions=("publish",))
    def publish(self, request: HttpRequest, object_id: str) -> HttpResponse:
        version = get_object_or_404(PlanVersion, pk=object_id)
        if not _is_confirmed(request):
            consequence = "From then on it never changes. New subscribers get it; others stay on theirs."
            return _ask(self, request, f"Publish {version}?", list(version.components.all()), consequence, "Publish")
        try:
            catalogue.publish_version(version, now=timezone.now(), actor=operator_of(request), request=request)
            messages.success(request, f"{version} is published: new subscribers get it.")
        except DomainError as error:
            messages.error(request, error.sentence)
        return redirect(reverse("admin:billing_planversion_change", args=[version.pk]))


def _is_draft(version: PlanVersion | None) -> bool:
    return version is None or version.published_at is None


def _is_confirmed(request: HttpRequest) -> bool:
    return request.method == "POST" and request.POST.get("confirmed") == "yes"


def _ask(
    model_admin: OperatorAdmin, request: HttpRequest, heading: str, rows: list[Any], consequence: str, label: str
) -> HttpResponse:
    context = {
        **model_admin.admin_site.each_context(request),
        "title": heading,
        "opts": model_admin.opts,
        "rows": rows,
        "consequence": consequence,
        "label": label,
    }
    return TemplateResponse(request, "accounts/admin_confirm.html", context)
