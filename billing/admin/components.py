"""Components of a draft, each on a page with the fields of its kind. Those of a published version are only shown."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Max
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse

from accounts.admin_rows import OperatorAdmin
from accounts.errors import DomainError
from billing.admin.row_fields import ByMeterField, LabelsField, TiersField
from billing.component_values import component_value
from billing.models import ComponentKind, PlanVersion, PriceComponent

NARROWED = ("only_models", "only_labels", "only_projects", "windows")
CARD = ("meters", "multiplier", "included", "shared_units", "shared_weights", "split_by")
# What each kind is made of, besides its place and label.
FIELDS_OF = {
    ComponentKind.FLAT_FEE: ("amount", "in_advance"),
    ComponentKind.PER_UNIT: ("meter", "unit_price", "scale", "included", *NARROWED),
    ComponentKind.GRADUATED: ("meter", "tiers", "scale", "included", *NARROWED),
    ComponentKind.VOLUME: ("meter", "tiers", "scale", "included", *NARROWED),
    ComponentKind.PACKAGE: ("meter", "unit_price", "scale", "included", *NARROWED),
    ComponentKind.RATE_CARD: (*CARD, *NARROWED),
    ComponentKind.PERCENTAGE: ("meter", "percent", "included", *NARROWED),
    ComponentKind.COST_PLUS: (*CARD, "floor", "ceiling", "scale", *NARROWED),
    ComponentKind.MINIMUM: ("amount", "counted"),
    ComponentKind.MAXIMUM: ("amount", "counted"),
}


class ComponentForm(forms.ModelForm):
    included = ByMeterField(label="Included", help_text="Units per period that cost nothing.")
    shared_weights = ByMeterField(label="Weights", help_text="What a unit of each meter takes of the shared allowance.")
    tiers = TiersField(help_text="In rising order; the last one without an end.")
    only_labels = LabelsField(help_text="Only usage with these labels, service_tier: batch. Empty: all.")

    class Meta:
        model = PriceComponent
        fields = tuple(dict.fromkeys(("position", "label", *(name for names in FIELDS_OF.values() for name in names))))
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
        """What rating would refuse, in words."""
        cleaned = super().clean() or {}
        if not self.errors:
            row = PriceComponent(plan_version=self.instance.plan_version, kind=self.instance.kind, **cleaned)
            try:
                component_value(row, ())
            except DomainError as error:
                raise forms.ValidationError(error.sentence, code=error.code) from error
        return cleaned


@admin.register(PriceComponent)
class PriceComponentAdmin(OperatorAdmin):
    """Reached from its version; a new one needs `?version=…&kind=…`."""

    form = ComponentForm

    def has_module_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: PriceComponent | None = None) -> bool:
        is_draft = obj is None or obj.plan_version.published_at is None
        return is_draft and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: PriceComponent | None = None) -> bool:
        is_draft = obj is None or obj.plan_version.published_at is None
        return is_draft and super().has_delete_permission(request, obj)

    def get_fields(self, request: HttpRequest, obj: PriceComponent | None = None) -> Any:
        kind = ComponentKind(obj.kind if obj else request.GET.get("kind", ""))
        return ("position", "label", *FIELDS_OF[kind])

    def get_form(self, request: HttpRequest, obj: PriceComponent | None = None, **kwargs: Any) -> Any:
        form_class = super().get_form(request, obj, **kwargs)
        if obj is not None:
            return form_class
        version = _draft_named(request)
        kind = ComponentKind(request.GET["kind"])

        class NewForm(form_class):  # type: ignore[misc, valid-type]
            def __init__(self, *args: Any, **more: Any) -> None:
                super().__init__(*args, **more)
                self.instance.plan_version, self.instance.kind = version, kind

        return NewForm

    def get_changeform_initial_data(self, request: HttpRequest) -> Any:
        last = _draft_named(request).components.aggregate(last=Max("position"))["last"] or 0
        return {"position": last + 1, "label": ComponentKind(request.GET["kind"]).label}

    def add_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.GET.get("kind") not in ComponentKind.values:
            return redirect(reverse("admin:billing_planversion_changelist"))
        return super().add_view(request, *args, **kwargs)

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return redirect(reverse("admin:billing_planversion_changelist"))

    def response_add(self, request: HttpRequest, obj: PriceComponent, *args: Any, **kwargs: Any) -> HttpResponse:
        return _back_to(obj)

    def response_change(self, request: HttpRequest, obj: PriceComponent) -> HttpResponse:
        return _back_to(obj)

    def response_delete(self, request: HttpRequest, obj_display: str, obj_id: str) -> HttpResponse:
        return redirect(reverse("admin:billing_planversion_changelist"))


def _draft_named(request: HttpRequest) -> PlanVersion:
    version = get_object_or_404(PlanVersion, pk=request.GET.get("version", "").strip() or None)
    if version.published_at is not None:
        raise PermissionDenied("A published version never changes.")
    return version


def _back_to(component: PriceComponent) -> HttpResponse:
    return redirect(reverse("admin:billing_planversion_change", args=[component.plan_version_id]))
