"""Forms of the billing pages."""

from django import forms

from billing.models import BillingDetails

COUNTRY_LETTERS = 2


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
