"""How operators name an organisation in forms of ours."""

from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts.models import Organisation


class OrganisationField(forms.CharField):
    """An organisation by its slug or org_… id."""

    def __init__(self, **options: Any) -> None:
        usual = {"label": "Organisation (slug or org_… id)", "widget": UnfoldAdminTextInputWidget}
        super().__init__(**{**usual, **options})

    def clean(self, value: Any) -> Any:
        if value in self.empty_values and not self.required:
            return None
        found = Organisation.objects.named(super().clean(value)).first()
        if found is None:
            raise forms.ValidationError("There is no such organisation.")
        return found
