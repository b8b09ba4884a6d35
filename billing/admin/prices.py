"""The price book: rows are added and never changed."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from unfold.decorators import display

from accounts.admin_rows import OperatorAdmin, operator_of
from accounts.errors import DomainError
from billing.models import Price
from billing.money import CURRENCIES, format_unit_price
from billing.price_book import add_price, require_possible

FIELDS = ("kind", "meter", "model", "currency", "amount", "scale", "valid_from", "valid_until", "windows", "source")


class NewPriceForm(forms.ModelForm):
    class Meta:
        model = Price
        fields = FIELDS
        help_texts = {
            "model": "Empty: every model without a row of its own.",
            "amount": "What that many units cost, in dollars, euros and so on, not in cents.",
            "scale": "How many units the amount buys.",
            "valid_from": "On a quarter hour. Backdating into a closed period makes an adjustment on the next invoice.",
            "windows": "Only at these times: “Mon-Fri 01:00-04:00, 06:00-10:00 UTC”. Empty: always.",
            "valid_until": "Empty: until another row takes over.",
        }

    def clean_currency(self) -> str:
        return str(self.cleaned_data["currency"]).strip().upper()

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if {"currency", "valid_from"} <= cleaned.keys():
            try:
                require_possible(
                    cleaned["currency"], cleaned["valid_from"], cleaned.get("valid_until"), cleaned["windows"]
                )
            except DomainError as error:
                raise forms.ValidationError(error.sentence, code=error.code) from error
        return cleaned


@admin.register(Price)
class PriceAdmin(OperatorAdmin):
    form = NewPriceForm
    list_display = ("meter", "for_model", "kind", "shown_price", "valid_from", "valid_until", "known_from", "source")
    list_filter = ("kind", "currency", "meter")
    list_select_related = ("meter",)
    search_fields = ("model", "public_id", "source")
    search_help_text = "Model, id or source"
    fields = FIELDS
    date_hierarchy = "valid_from"

    def get_fields(self, request: HttpRequest, obj: Price | None = None) -> Any:
        return ("public_id", *FIELDS, "known_from") if obj else FIELDS

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Price, form: forms.ModelForm, change: bool) -> None:
        values = {name: form.cleaned_data[name] for name in FIELDS if name != "meter"}
        added = add_price(form.cleaned_data["meter"], **values, actor=operator_of(request), request=request)
        obj.__dict__.update(added.__dict__)

    @display(description="Model", ordering="model")
    def for_model(self, price: Price) -> str:
        return price.model or "any other model"

    @display(description="Price", ordering="amount")
    def shown_price(self, price: Price) -> str:
        if price.currency not in CURRENCIES:
            return f"{price.amount} {price.currency}"
        return format_unit_price(price.amount, scale=price.scale, currency=price.currency)
