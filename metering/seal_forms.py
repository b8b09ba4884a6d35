"""What the page of seals can be asked: one event, or a range of days to download."""

from django import forms


class EventForm(forms.Form):
    """An event by what its sender called it."""

    source = forms.CharField(label="Source", max_length=255)
    id = forms.CharField(label="Event id", max_length=255)


class ExportForm(forms.Form):
    """Days of receipt, both included; without one of them, from the first or to the last that is sealed."""

    first = forms.DateField(label="From", required=False, widget=forms.DateInput(attrs={"type": "date"}))
    last = forms.DateField(label="To, inclusive", required=False, widget=forms.DateInput(attrs={"type": "date"}))
