"""Forms of the billing pages."""

from datetime import datetime
from typing import Any

from django import forms
from django.db.models import QuerySet

from accounts.models import Organisation
from billing.models import BillingDetails, Price
from billing.models.price_book import PriceKind
from metering.models import Series

COUNTRY_LETTERS = 2
# As many as a list to choose from can hold.
MOST_CHOICES = 500
MONTHS = [("1", "Last month"), ("3", "Last 3 months"), ("6", "Last 6 months"), ("12", "Last 12 months")]
DEFAULT_MONTHS = "3"


class BillingDetailsForm(forms.ModelForm):
    class Meta:
        model = BillingDetails
        fields = ["legal_name", "email", "address", "country", "tax_id"]
        labels = {
            "legal_name": "Name on invoices",
            "email": "E-mail for invoices",
            "country": "Country code",
            "tax_id": "Tax number",
        }
        help_texts = {
            "email": "New invoices are announced here.",
            "country": "Two letters, such as DE or US.",
            "tax_id": "VAT number or the like, as it should stand on invoices.",
        }
        widgets = {
            "legal_name": forms.TextInput(attrs={"autocomplete": "organization"}),
            "email": forms.EmailInput(attrs={"autocomplete": "email"}),
            "address": forms.Textarea(attrs={"rows": 4, "autocomplete": "street-address"}),
            "country": forms.TextInput(attrs={"autocomplete": "country", "maxlength": COUNTRY_LETTERS}),
            "tax_id": forms.TextInput(attrs={"autocomplete": "off"}),
        }

    def clean_country(self) -> str:
        country = str(self.cleaned_data["country"]).strip().upper()
        if country and (len(country) != COUNTRY_LETTERS or not country.isascii() or not country.isalpha()):
            raise forms.ValidationError("Enter the two letters of the country, such as DE or US.", code="country")
        return country


class CouponForm(forms.Form):
    code = forms.CharField(
        label="Coupon code", max_length=40, widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"})
    )


class ComparisonForm(forms.Form):
    """How many months to compare, and which model to put in place of which; bound to the address."""

    months = forms.ChoiceField(label="Months", choices=MONTHS, required=False)
    model = forms.ChoiceField(label="In place of", required=False)
    instead = forms.ChoiceField(label="Use", required=False)

    def __init__(self, values: Any, *, organisation: Organisation, now: datetime) -> None:
        super().__init__({"months": DEFAULT_MONTHS} | values.dict())
        _choose(self, "model", [("", "no model")], Series.objects.filter(organisation=organisation))
        _choose(self, "instead", [("", "the same")], Price.objects.filter(kind=PriceKind.LIST).in_force(now))
        self.full_clean()

    def clean(self) -> dict[str, Any]:
        values = self.cleaned_data
        if bool(values.get("model")) != bool(values.get("instead")) and not self.errors:
            self.add_error("instead" if values.get("model") else "model", "Choose both models, or neither.")
        return values

    @property
    def wanted_months(self) -> int:
        return int(self.cleaned_data.get("months") or DEFAULT_MONTHS)

    @property
    def replacement(self) -> tuple[str, str] | None:
        """The model used and the one to put in its place."""
        model, instead = self.cleaned_data.get("model"), self.cleaned_data.get("instead")
        return (model, instead) if model and instead and model != instead else None


def _choose(form: forms.Form, name: str, first: list[tuple[str, str]], rows: QuerySet[Any]) -> list[str]:
    """Offer the rows' models in a field, after what stands first; returns the models."""
    field = form.fields[name]
    assert isinstance(field, forms.ChoiceField)
    found = rows.exclude(model="").order_by("model").values_list("model", flat=True).distinct()
    models = list(found[:MOST_CHOICES])
    field.choices = [*first, *((model, model) for model in models)]
    return models


class CalculatorForm(forms.Form):
    """A month of calls, bound to the address; every field has something to begin with."""

    DEFAULTS = {"calls": "100000", "prompt": "1500", "cached": "40", "answer": "400"}

    model = forms.ChoiceField(label="Model")
    calls = forms.IntegerField(label="Calls a month", min_value=1, max_value=10**12)
    prompt = forms.IntegerField(label="Tokens in a prompt", min_value=0, max_value=10**8)
    cached = forms.IntegerField(label="Of these from cache, percent", min_value=0, max_value=100)
    answer = forms.IntegerField(label="Tokens in an answer", min_value=0, max_value=10**8)

    def __init__(self, values: Any, *, now: datetime) -> None:
        given = {name: value for name, value in values.items() if value != ""}
        rows = Price.objects.filter(kind=PriceKind.LIST).in_force(now)
        super().__init__()
        self.models = _choose(self, "model", [], rows)
        self.data = {"model": self.models[0] if self.models else "", **self.DEFAULTS, **given}
        self.is_bound = True
        self.full_clean()
