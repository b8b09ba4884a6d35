"""The price book: rows are added, never changed. A change is a new row, shown beside the old one beforehand."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminTextInputWidget

from accounts.admin_rows import operator_of
from accounts.errors import DomainError
from billing.models import Price
from billing.money import CURRENCIES, format_unit_price
from billing.periods import QUARTER_HOUR, quarter_hour_floor
from billing.price_book import CONDITION_FIELDS, add_price, conditions_from, require_possible
from billing.price_changes import change_price, history_of, preview_change, withdraw_price
from billing.price_files import write_prices_file
from billing.unpriced import Unpriced, unpriced_usage
from billing.usage_labels import never_met

FIELDS = (
    *("kind", "meter", "model", "currency", "amount", "scale", "valid_from", "valid_until"),
    *(*CONDITION_FIELDS, "windows", "source"),
)
PLAIN_FIELDS = tuple(name for name in FIELDS if name not in ("meter", *CONDITION_FIELDS))


class NewPriceForm(forms.ModelForm):
    class Meta:
        model = Price
        fields = FIELDS
        help_texts = {
            "model": "Empty: every model without a row of its own.",
            "amount": "What that many units cost, in dollars, euros and so on, not in cents.",
            "scale": "How many units the amount buys.",
            "valid_from": "On a quarter hour. Closed periods keep their prices, whatever is added for them.",
            "windows": "Only at these times: “Mon-Fri 01:00-04:00, 06:00-10:00 UTC”. Empty: always.",
            "valid_until": "Empty: until another row takes over.",
            "service_tier": "Only for this one: batch, priority, flex. Empty: for all that have no row of their own.",
            "context_above": "Only for requests with more tokens in their prompt. The whole request is priced so.",
            "context_up_to": "Only for requests with at most so many tokens in their prompt.",
            "cache_ttl": "Only for caches of this lifetime: 5m, 1h.",
            "region": "Only for usage in this region.",
        }

    def clean_currency(self) -> str:
        return str(self.cleaned_data["currency"]).strip().upper()

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        try:
            conditions_from({name: cleaned.get(name) for name in CONDITION_FIELDS})
            if {"currency", "valid_from"} <= cleaned.keys():
                require_possible(
                    cleaned["currency"], cleaned["valid_from"], cleaned.get("valid_until"), cleaned["windows"]
                )
        except DomainError as error:
            raise forms.ValidationError(error.sentence, code=error.code) from error
        return cleaned


class ChangeForm(forms.Form):
    amount = forms.DecimalField(
        label="New amount", min_value=Decimal(0), max_digits=30, decimal_places=12, widget=UnfoldAdminDecimalFieldWidget
    )
    scale = forms.DecimalField(
        label="for so many units",
        min_value=Decimal("0.000001"),
        max_digits=18,
        decimal_places=6,
        widget=UnfoldAdminDecimalFieldWidget,
    )
    valid_from = forms.DateTimeField(label="From (UTC, a quarter hour)", widget=UnfoldAdminTextInputWidget)
    valid_until = forms.DateTimeField(
        label="Until (empty: until another row takes over)", required=False, widget=UnfoldAdminTextInputWidget
    )


@admin.register(Price)
class PriceAdmin(ModelAdmin):
    form = NewPriceForm
    list_display = ("meter", "for_model", "holds_for", "kind", "shown_price", "valid_from", "valid_until", "standing")
    list_filter = ("kind", "currency", "service_tier", "meter", "source")
    list_select_related = ("meter", "superseded_by")
    search_fields = ("model", "public_id", "source")
    search_help_text = "Model, id or source"
    fields = FIELDS
    date_hierarchy = "valid_from"
    change_form_after_template = "billing/admin/price_history.html"
    actions_list = ("unpriced", "download")
    actions_detail = ("change_this", "withdraw_this")

    def get_fields(self, request: HttpRequest, obj: Price | None = None) -> Any:
        return ("public_id", *FIELDS, "known_from", "supersedes") if obj else FIELDS

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_act_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("billing.add_price")

    def save_model(self, request: HttpRequest, obj: Price, form: forms.ModelForm, change: bool) -> None:
        values = {name: form.cleaned_data[name] for name in PLAIN_FIELDS}
        conditions = conditions_from({name: form.cleaned_data[name] for name in CONDITION_FIELDS})
        meter = form.cleaned_data["meter"]
        added = add_price(meter, **values, conditions=conditions, actor=operator_of(request), request=request)
        obj.__dict__.update(added.__dict__)
        for warning in never_met(meter, conditions):
            messages.warning(request, f"This price is never applied so far. {warning}")

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        price = Price.objects.filter(pk=object_id).first() if object_id.isdecimal() else None
        extra = {"history": history_of(price)[:200], "this": price} if price else {}
        return super().change_view(request, object_id, *args, **{**kwargs, "extra_context": extra})

    @action(description="Used without a price", url_path="unpriced")
    def unpriced(self, request: HttpRequest) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": "Used without a price",
            "opts": self.opts,
            "rows": [(row, _new_price_query(row)) for row in unpriced_usage(timezone.now())],
        }
        return TemplateResponse(request, "billing/admin/unpriced.html", context)

    @action(description="Download as CSV", url_path="file")
    def download(self, request: HttpRequest) -> StreamingHttpResponse:
        rows = Price.objects.select_related("meter", "superseded_by").order_by("pk")
        return StreamingHttpResponse(
            write_prices_file(rows.iterator(chunk_size=2000)),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": 'attachment; filename="prices.csv"'},
        )

    @action(description="Change this price…", url_path="change-price", permissions=("act",))
    def change_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The form, what it would do, and, once confirmed, the new row."""
        price = get_object_or_404(Price.objects.select_related("meter", "superseded_by"), pk=object_id)
        form = ChangeForm(request.POST or None, initial=_as_it_is(price))
        preview = None
        if form.is_valid():
            try:
                preview = preview_change(price, **form.cleaned_data, now=timezone.now())
                if request.POST.get("confirmed") == "yes":
                    added = change_price(price, **form.cleaned_data, actor=operator_of(request), request=request)
                    messages.success(request, "The new price is in the book. Closed periods keep theirs.")
                    return redirect(reverse("admin:billing_price_change", args=[added.pk]))
            except DomainError as error:
                form.add_error(None, error.sentence)
                preview = None
        context = {
            **self.admin_site.each_context(request),
            "title": f"Change the price of {price.meter}, {price.model or 'any model'}",
            "opts": self.opts,
            "price": price,
            "form": form,
            "preview": preview,
        }
        return TemplateResponse(request, "billing/admin/price_change.html", context)

    @action(description="Take it back…", url_path="withdrawal", permissions=("act",))
    def withdraw_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        price = get_object_or_404(Price.objects.select_related("meter"), pk=object_id)
        if request.method == "POST" and request.POST.get("confirmed") == "yes":
            try:
                withdraw_price(price, actor=operator_of(request), request=request)
                messages.success(request, "The price is taken back. Closed periods keep it.")
            except DomainError as error:
                messages.error(request, error.sentence)
            return redirect(reverse("admin:billing_price_change", args=[price.pk]))
        context = {
            **self.admin_site.each_context(request),
            "title": f"Take back the price of {price.meter}, {price.model or 'any model'}?",
            "opts": self.opts,
            "rows": [f"{self.shown_price(price)} {price.holds_for}"],
            "consequence": "Open periods are rated as if it had never been in the book. Closed periods keep it.",
            "label": "Take it back",
        }
        return TemplateResponse(request, "accounts/admin_confirm.html", context)

    @display(description="Model", ordering="model")
    def for_model(self, price: Price) -> str:
        return price.model or "any other model"

    @display(description="Holds for")
    def holds_for(self, price: Price) -> str:
        return price.holds_for or "everything"

    @display(description="Price", ordering="amount")
    def shown_price(self, price: Price) -> str:
        if price.currency not in CURRENCIES:
            return f"{price.amount} {price.currency}"
        return format_unit_price(price.amount, scale=price.scale, currency=price.currency)

    @display(description="State", label={"in the book": "success", "superseded": "info", "taken back": "warning"})
    def standing(self, price: Price) -> str:
        return price.standing


def _new_price_query(row: Unpriced) -> str:
    """What the form of a new price begins with."""
    values: dict[str, Any] = {"kind": "list", "meter": row.meter.pk, "model": row.model, "currency": row.currency}
    values |= {name: value for name, value in row.labels.items() if name in CONDITION_FIELDS}
    if row.estimate is not None:
        values |= {"amount": f"{row.estimate.amount.normalize():f}", "scale": f"{row.estimate.scale.normalize():f}"}
    return urlencode(values)


def _as_it_is(price: Price) -> dict[str, Any]:
    now: datetime = timezone.now().astimezone(UTC)
    return {
        "amount": f"{price.amount.normalize():f}",
        "scale": f"{price.scale.normalize():f}",
        "valid_from": f"{max(quarter_hour_floor(now) + QUARTER_HOUR, price.valid_from).astimezone(UTC):%Y-%m-%d %H:%M}",
        "valid_until": price.valid_until,
    }
