"""The form of a meter: everything when it is made; afterwards its words, and a definition for later events."""

from datetime import datetime
from typing import Any

from django import forms
from django.utils import timezone

from accounts.errors import DomainError
from metering.defining import WORDS, checked, earliest_revision, untouched_from
from metering.models import Meter, MeterRevision

RULE = ("dimensions", "tiers", "filters")
HELP = {
    "value_field": "A member of the event's data such as seconds, or a path such as usage.seconds. Empty for a count.",
    "dimensions": "Members or paths by which totals are kept apart, with commas: model, service_tier. "
    "Past SERIES_PER_MONTH new sets of values in a month, and those of the events counted then, they read (other).",
    "tiers": 'Dimensions made of a size: {"context_tier": {"fields": ["input_tokens", "cache_read_tokens"], "steps": '
    '[{"up_to": "200000", "label": "0"}, {"label": "200000"}]}}.',
    "filters": 'Conditions that must all hold: [{"field": "operation", "operator": "in", "values": ["chat"]}]. '
    "Operators: eq, ne, in, not_in, exists, absent, gt, gte, lt, lte.",
}
BEGINS = "A quarter hour that no event has reached yet. Earlier events are counted by a backfill."
TAKES_EFFECT = (
    "When a change of dimensions, tiers or conditions takes effect: a quarter hour that no event has reached yet. "
    "Totals of before stay as they are."
)


class MeterForm(forms.ModelForm):
    class Meta:
        model = Meter
        fields = (
            "key", "name", "description", "event_type", "value_field", "aggregation", "unit", "display_scale",
            "dimensions", "tiers", "filters", "part_of", "position", "effective_from",
        )  # fmt: skip

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.now = timezone.now()
        for name, text in HELP.items():
            if name in self.fields:
                self.fields[name].help_text = text
        if "effective_from" in self.fields:
            self.fields["effective_from"].help_text = TAKES_EFFECT if self.instance.pk else BEGINS
        if self.instance.pk:
            self._start_from_latest()

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not self.errors:
            try:
                checked(self.described())
            except DomainError as error:
                raise forms.ValidationError(error.sentence, code=error.code) from error
            self._check_instant(cleaned["effective_from"])
        return cleaned

    def described(self) -> Meter:
        """The meter as it would be, not saved."""
        stored: Any = Meter.objects.filter(pk=self.instance.pk).values().first() or {}
        return Meter(**stored | self.cleaned_data)

    def words(self) -> dict[str, Any]:
        """Words that are changed."""
        return {name: self.cleaned_data[name] for name in WORDS if name in self.changed_data}

    @property
    def changes_rule(self) -> bool:
        latest = self._latest()
        return any(self.cleaned_data[name] != getattr(latest, name) for name in RULE)

    def _latest(self) -> Meter | MeterRevision:
        return Meter.objects.get(pk=self.instance.pk).latest_definition

    def _start_from_latest(self) -> None:
        latest = self._latest()
        self.initial.update({name: getattr(latest, name) for name in RULE})
        self.initial["effective_from"] = earliest_revision(self.instance, self.now)

    def _check_instant(self, effective_from: datetime) -> None:
        if self.instance.pk:
            earliest = earliest_revision(self.instance, self.now)
            is_late_enough = effective_from >= earliest or not self.changes_rule
        else:
            earliest = untouched_from(self.now)
            is_late_enough = effective_from >= earliest
        if not is_late_enough:
            self.add_error("effective_from", f"Choose {earliest:%Y-%m-%d %H:%M} UTC or later.")
