"""What the usage page is asked: a range, a measure, a grouping and filters, all of it in the address.

An address may be old or typed by hand: what cannot be read is named, and the default stands in for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django import forms
from django.db.models import F, QuerySet

from accounts.models import ApiKey, Organisation, Project
from metering.buckets import Granularity, midnight
from metering.models import Meter, Series
from metering.reports import UsageFilter

RANGES = [
    ("today", "Today"),
    ("7d", "Last 7 days"),
    ("30d", "Last 30 days"),
    ("month", "This month"),
    ("last_month", "Last month"),
    ("custom", "From … to …"),
]
DEFAULT_RANGE = "month"
GROUPS = [("model", "Model"), ("meter", "Meter"), ("project", "Project"), ("api_key", "API key")]
TOKENS = "tokens"
STEPS = [("", "Automatic"), ("interval", "Quarter hours"), ("hour", "Hours"), ("day", "Days"), ("month", "Months")]
# The longest range that each step is drawn for; beyond it the bars would be hairs.
LONGEST: dict[str, timedelta] = {
    "interval": timedelta(days=2),
    "hour": timedelta(days=14),
    "day": timedelta(days=184),
}
# What "automatic" chooses, up to these lengths.
AUTOMATIC: list[tuple[timedelta, Granularity]] = [(timedelta(days=2), "hour"), (timedelta(days=93), "day")]
LONGEST_RANGE = timedelta(days=5 * 366)
EARLIEST = date(2000, 1, 1)
LATEST = date(2199, 12, 31)
# As many as a list to choose from can hold; the most recently used come first.
MOST_CHOICES = 500


@dataclass(frozen=True, slots=True)
class Question:
    """What to report, complete and consistent."""

    start: datetime
    end: datetime
    granularity: Granularity
    # meter, model, project or api_key.
    group: str
    # "tokens" for tokens in total, or a meter's key.
    measure: str
    measure_name: str
    unit: str
    meters: tuple[str, ...]
    filters: UsageFilter


class UsageForm(forms.Form):
    """The controls above the figures. Bound to the address, never invalid as a whole: ask `question`."""

    range = forms.ChoiceField(label="Range", choices=RANGES, required=False)
    measure = forms.ChoiceField(label="Measure", required=False)
    group = forms.ChoiceField(label="Split by", choices=GROUPS, required=False)
    granularity = forms.ChoiceField(label="Step", choices=STEPS, required=False)
    model = forms.ChoiceField(label="Model", required=False)
    project = forms.ChoiceField(label="Project", required=False)
    key = forms.ChoiceField(label="API key", required=False)

    def __init__(self, values: Any, *, organisation: Organisation, now: datetime) -> None:
        self.organisation = organisation
        self.today = now.astimezone(organisation.zone).date()
        super().__init__({"range": DEFAULT_RANGE, "group": "model", "measure": TOKENS} | values.dict())
        for name, label in (("from", "From"), ("to", "To, inclusive")):
            self.fields[name] = forms.DateField(label=label, required=False, widget=_DateInput(self.today))
        self.meters = [meter for meter in Meter.objects.select_related("part_of") if meter.is_additive]
        self.projects = list(Project.objects.for_organisation(organisation)[:MOST_CHOICES])
        self.keys = list(_recent_keys(organisation))
        self._choices("measure", [(TOKENS, "Tokens in total"), *((meter.key, meter.name) for meter in self.meters)])
        self._choices("model", [("", "All models"), *((name, name) for name in _models(organisation))])
        self._choices("project", [("", "All projects"), *((one.public_id, one.name) for one in self.projects)])
        self._choices("key", [("", "All keys"), *((one.public_id, one.name) for one in self.keys)])
        self.full_clean()

    def question(self) -> Question:
        """What is asked, with defaults for what was left out or could not be read."""
        first, last = self._days()
        zone = self.organisation.zone
        measure = self._chosen("measure") or TOKENS
        meters = self._measured(measure)
        return Question(
            start=midnight(first, zone),
            end=midnight(last + timedelta(days=1), zone),
            granularity=self._step(last + timedelta(days=1) - first),
            group=self._chosen("group") or "model",
            measure=measure,
            measure_name=dict(self.fields["measure"].choices)[measure],
            unit=meters[0].unit if meters else TOKENS,
            meters=tuple(meter.key for meter in meters),
            filters=self._filters(tuple(meter.key for meter in meters)),
        )

    def clean(self) -> dict[str, Any]:
        first, last = self.cleaned_data.get("from"), self.cleaned_data.get("to")
        if self.cleaned_data.get("range") == "custom" and first and last:
            if last < first:
                self.add_error("to", "This is before the first day.")
            elif last - first > LONGEST_RANGE:
                self.add_error("from", "Choose at most five years.")
            elif first < EARLIEST or last > LATEST:
                self.add_error("from", "Choose days from 2000 on.")
        return self.cleaned_data

    def _choices(self, name: str, choices: Sequence[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = list(choices)

    def _chosen(self, name: str) -> str:
        return self.cleaned_data.get(name) or ""

    def _days(self) -> tuple[date, date]:
        """The first and the last day of the range, both included."""
        today = self.today
        match self._chosen("range") or DEFAULT_RANGE:
            case "today":
                return today, today
            case "7d":
                return today - timedelta(days=6), today
            case "30d":
                return today - timedelta(days=29), today
            case "last_month":
                last = today.replace(day=1) - timedelta(days=1)
                return last.replace(day=1), last
            case "custom" if not {"from", "to"} & set(self.errors):
                last = self.cleaned_data["to"] or today
                first = self.cleaned_data["from"] or min(today, last).replace(day=1)
                return min(first, last), last
        return today.replace(day=1), today

    def _step(self, length: timedelta) -> Granularity:
        wanted = self._chosen("granularity")
        for step in ("interval", "hour", "day"):
            if wanted == step and length <= LONGEST[step]:
                return step  # type: ignore[return-value]
        if wanted == "month":
            return "month"
        return next((step for longest, step in AUTOMATIC if length <= longest), "month")

    def _measured(self, measure: str) -> list[Meter]:
        if measure == TOKENS:
            return [meter for meter in self.meters if meter.unit == TOKENS and meter.part_of is None]
        return [meter for meter in self.meters if meter.key == measure]

    def _filters(self, meters: tuple[str, ...]) -> UsageFilter:
        model, project, key = (self._chosen(name) for name in ("model", "project", "key"))
        return UsageFilter(
            meters=meters,
            models=(model,) if model else (),
            project_ids=tuple(one.pk for one in self.projects if one.public_id == project),
            api_key_ids=tuple(one.pk for one in self.keys if one.public_id == key),
        )


class _DateInput(forms.DateInput):
    input_type = "date"

    def __init__(self, today: date) -> None:
        super().__init__({"max": today.isoformat()}, format="%Y-%m-%d")


def _models(organisation: Organisation) -> list[str]:
    found = Series.objects.filter(organisation=organisation).exclude(model="").values_list("model", flat=True)
    return list(found.distinct().order_by("model")[:MOST_CHOICES])


def _recent_keys(organisation: Organisation) -> "QuerySet[ApiKey]":
    keys = ApiKey.objects.for_organisation(organisation)
    return keys.order_by(F("last_used_at").desc(nulls_last=True), "-pk")[:MOST_CHOICES]
