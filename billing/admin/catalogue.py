"""Plans, their versions and components. A published version is never changed; a new one starts as its copy."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.admin import StackedInline
from unfold.decorators import action, display

from accounts.admin_rows import OperatorAdmin, ReadOnlyInline, operator_of
from accounts.errors import DomainError
from billing import catalogue
from billing.component_values import component_value
from billing.models import Plan, PlanVersion, PriceComponent

COMPONENT_FIELDS = (
    "position",
    "kind",
    "label",
    "amount",
    "in_advance",
    "meter",
    "meters",
    "only_models",
    "only_labels",
    "only_projects",
    "split_by",
    "unit_price",
    "scale",
    "included",
    "shared_units",
    "shared_weights",
    "tiers",
    "multiplier",
    "percent",
    "floor",
    "ceiling",
    "counted",
    "windows",
)


# What a field that takes JSON means when it is left empty.
EMPTY: dict[str, Any] = {"included": {}, "tiers": [], "only_labels": {}, "shared_weights": {}}


class Versions(ReadOnlyInline):
    model = PlanVersion
    fields = readonly_fields = ("number", "currency", "cadence", "created_at", "published_at")
    show_change_link = True


@admin.register(Plan)
class PlanAdmin(OperatorAdmin):
    list_display = ("name", "key", "on_offer", "newest", "position")
    search_fields = ("name", "key")
    fields = ("key", "name", "description", "is_public", "position", "archived_at")
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


class ComponentForm(forms.ModelForm):
    class Meta:
        model = PriceComponent
        fields = COMPONENT_FIELDS
        help_texts = {
            "meter": "Per unit, graduated, volume, packages and percentage: the one meter.",
            "meters": "Price book and provider cost: keys of meters, with commas. Empty: all but parts of others.",
            "only_models": "Only these models, with commas, by name or pattern: claude-*. Empty: all.",
            "only_labels": 'Only usage with these labels: {"service_tier": ["batch"]}. Empty: all.',
            "only_projects": "Only these projects, by id. Empty: all.",
            "split_by": "Price book and provider cost: a line for each of these, such as project.",
            "shared_units": "Price book and provider cost: an allowance that several meters draw from. Empty: none.",
            "shared_weights": 'What a unit of each meter takes of it: {"input_tokens": "1", "output_tokens": "5"}.',
            "unit_price": "Per unit and packages: what that many units (the scale) cost.",
            "scale": "How many units a price buys; for packages, the size of one.",
            "included": 'Units per period that cost nothing: {"input_tokens": "1000000"}.',
            "tiers": 'By tier: [{"up_to": "1000000", "unit_price": "0.15"}, {"up_to": null, "unit_price": "0.10"}]',
            "amount": "Flat fee, minimum and maximum: per period, in dollars, euros and so on.",
            "windows": "Only usage at these times: “Mon-Fri 22:00-06:00 Europe/Berlin”. Empty: always.",
            "counted": "Minimum and maximum: positions of the components that count. Empty: all.",
            "multiplier": "Price book: times the list price; 0.9 is ten percent off. Provider cost: times the cost.",
            "percent": "Percentage: 2.9 is 2.9% of what the meter counts. Its unit must be the plan's currency.",
            "floor": "Provider cost: that many units (the scale) never cost less. Empty: no bound.",
            "ceiling": "Provider cost: that many units never cost more. Empty: no bound.",
        }

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        cleaned |= {name: empty for name, empty in EMPTY.items() if cleaned.get(name) is None}
        if not self.errors:
            row = PriceComponent(**{name: value for name, value in cleaned.items() if name not in ("id", "DELETE")})
            try:
                component_value(row, ())
            except DomainError as error:
                raise forms.ValidationError(error.sentence, code=error.code) from error
        return cleaned


class Components(StackedInline):
    model = PriceComponent
    form = ComponentForm
    extra = 0

    def has_add_permission(self, request: HttpRequest, obj: PlanVersion | None = None) -> bool:
        return _is_draft(obj) and super().has_add_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: PlanVersion | None = None) -> bool:
        return _is_draft(obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: PlanVersion | None = None) -> bool:
        return _is_draft(obj) and super().has_delete_permission(request, obj)


@admin.register(PlanVersion)
class PlanVersionAdmin(OperatorAdmin):
    list_display = ("plan", "number", "currency", "cadence", "state", "published_at")
    list_filter = ("plan", "currency")
    list_select_related = ("plan",)
    fields = ("plan", "number", "currency", "cadence", "published_at")
    readonly_fields = ("plan", "number", "published_at")
    inlines = (Components,)
    actions_detail = ("publish",)

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
