"""What the usage page can be asked: a range, a measure, a grouping and filters, all of it in the address.

An address may be old or typed by hand: what cannot be read is named, and the default stands in for it.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

from django import forms
from django.core.validators import validate_email
from django.db.models import F, QuerySet

from accounts.models import ApiKey, Organisation, Project
from metering.models import AdmissionSettings, AlertSettings, Meter, Quota, Series

CUSTOM = "custom"
RANGES = [
    ("today", "Today"),
    ("7d", "Last 7 days"),
    ("30d", "Last 30 days"),
    ("month", "This month"),
    ("last_month", "Last month"),
    (CUSTOM, "From … to …"),
]
DEFAULT_RANGE = "month"
GROUPS = [("model", "Model"), ("meter", "Meter"), ("project", "Project"), ("api_key", "API key")]
GROUP_WORDS = {"model": "model", "meter": "meter", "project": "project", "api_key": "API key"}
TOKENS = "tokens"
STEPS = [("", "Automatic"), ("interval", "Quarter hours"), ("hour", "Hours"), ("day", "Days"), ("month", "Months")]
LONGEST_RANGE = timedelta(days=5 * 366)
EARLIEST = date(2000, 1, 1)
LATEST = date(2199, 12, 31)
# As many as a list to choose from can hold; the most recently used come first.
MOST_CHOICES = 500
MOST_ADDRESSES = 20


def label_title(name: str) -> str:
    """How a dimension without a name of its own is called: context_tier -> Context tier."""
    words = name.replace("_", " ").replace(".", ", ")
    return words[:1].upper() + words[1:]


class UsageForm(forms.Form):
    """The controls above the figures, bound to the address. What is wrong there is said and counts as not given."""

    range = forms.ChoiceField(label="Range", choices=RANGES, required=False)
    measure = forms.ChoiceField(label="Measure", required=False)
    group = forms.ChoiceField(label="Split by", choices=GROUPS, required=False)
    granularity = forms.ChoiceField(label="Step", choices=STEPS, required=False)
    model = forms.ChoiceField(label="Model", required=False)
    project = forms.ChoiceField(label="Project", required=False)
    key = forms.ChoiceField(label="API key", required=False)

    def __init__(
        self,
        values: Any,
        *,
        organisation: Organisation,
        now: datetime,
        meters: Sequence[Meter],
        labels: Sequence[str],
    ) -> None:
        self.organisation = organisation
        self.today = now.astimezone(organisation.zone).date()
        defaults = {"range": DEFAULT_RANGE, "group": "model", "measure": TOKENS}
        super().__init__(defaults | self._dates_of(values.get("range", DEFAULT_RANGE)) | values.dict())
        for name, label in (("from", "From"), ("to", "To, inclusive")):
            self.fields[name] = forms.DateField(label=label, required=False, widget=_DateInput(self.today))
        self.meters = list(meters)
        self.projects = list(Project.objects.for_organisation(organisation)[:MOST_CHOICES])
        self.keys = list(_recent_keys(organisation))
        self._choices("measure", [(TOKENS, "Tokens in total"), *((meter.key, meter.name) for meter in self.meters)])
        self._choices("group", [*GROUPS, *((name, label_title(name)) for name in labels if name not in GROUP_WORDS)])
        self._choices("model", [("", "All models"), *((name, name) for name in _models(organisation))])
        self._choices("project", [("", "All projects"), *((one.public_id, one.name) for one in self.projects)])
        self._choices("key", [("", "All keys"), *((one.public_id, one.name) for one in self.keys)])
        self.full_clean()

    def clean(self) -> dict[str, Any]:
        if self.cleaned_data.get("range") == CUSTOM and not {"from", "to"} & set(self.errors):
            last = self.cleaned_data["to"] or self.today
            first = self.cleaned_data["from"] or last.replace(day=1)
            if self.cleaned_data["to"] and last < first:
                self.add_error("to", "This is before the first day.")
            elif last - first > LONGEST_RANGE:
                self.add_error("from", "Choose at most five years.")
            elif first < EARLIEST or last > LATEST:
                self.add_error("from", "Choose days from 2000 on.")
        return self.cleaned_data

    def days_fields(self) -> list[forms.BoundField]:
        return [self["from"], self["to"]]

    def chosen(self, name: str) -> str:
        """The value of a choice; empty when it was left out or could not be read."""
        return self.cleaned_data.get(name) or ""

    def days(self) -> tuple[date, date]:
        """The first and the last day of the range, both included."""
        wanted = self.chosen("range") or DEFAULT_RANGE
        if wanted != CUSTOM:
            return _named_days(wanted, self.today)
        if {"from", "to"} & set(self.errors):
            return _named_days(DEFAULT_RANGE, self.today)
        last = self.cleaned_data["to"] or self.today
        first = self.cleaned_data["from"] or last.replace(day=1)
        return min(first, last), last

    def _dates_of(self, wanted: str) -> dict[str, str]:
        """Days to begin with when somebody turns to a range of their own."""
        if wanted == CUSTOM:
            return {}
        first, last = _named_days(wanted, self.today)
        return {"from": first.isoformat(), "to": last.isoformat()}

    def _choices(self, name: str, choices: Sequence[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = list(choices)


def _named_days(wanted: str, today: date) -> tuple[date, date]:
    """First and last day of a range with a name; of this month for any other."""
    match wanted:
        case "today":
            return today, today
        case "7d":
            return today - timedelta(days=6), today
        case "30d":
            return today - timedelta(days=29), today
        case "last_month":
            last = today.replace(day=1) - timedelta(days=1)
            return last.replace(day=1), last
    return today.replace(day=1), today


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


MEASURES = [("spend", "Spend"), ("requests", "Requests"), ("concurrent", "Calls at the same time")]
WINDOWS = [
    ("minute", "Minute"),
    ("hour", "Hour"),
    ("day", "Day"),
    ("week", "Week"),
    ("month", "Month"),
    ("billing_period", "Billing period"),
    ("none", "In total, for ever"),
]
ENFORCEMENTS = [("hard", "Refuse calls beyond it"), ("soft", "Only tell us")]


class LimitForm(forms.Form):
    """A limit that a customer sets itself."""

    counts = forms.ChoiceField(label="What is limited")
    amount = forms.DecimalField(
        label="How much", min_value=0, max_digits=24, decimal_places=6, help_text="In tokens, calls or whole currency."
    )
    window = forms.ChoiceField(label="Per", choices=WINDOWS, initial="billing_period")
    applies_to = forms.ChoiceField(label="For")
    models = forms.CharField(
        label="Only on these models", required=False, help_text="Such as gpt-*, claude-sonnet-*; empty: all."
    )
    enforcement = forms.ChoiceField(label="At the limit", choices=ENFORCEMENTS, initial="hard")
    thresholds = forms.CharField(
        label="Tell us at", required=False, initial="80, 100", help_text="Percent of the limit, with commas."
    )

    def __init__(self, *args: Any, organisation: Organisation, currency: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.currency = currency
        meters = [(f"meter:{meter.key}", meter.name) for meter in Meter.objects.active() if meter.is_additive]
        self._choose("counts", [*MEASURES, *meters])
        keys = ApiKey.objects.for_organisation(organisation).filter(revoked_at=None)[:MOST_CHOICES]
        projects = Project.objects.for_organisation(organisation).filter(archived_at=None)[:MOST_CHOICES]
        self.keys = {f"key:{key.public_id}": key for key in keys}
        self.projects = {f"project:{project.public_id}": project for project in projects}
        self._choose(
            "applies_to",
            [
                ("organisation", "Everything"),
                ("end_user", "Each end user"),
                *((name, f"Project {project.name}") for name, project in self.projects.items()),
                *((name, f"Key {key.name}") for name, key in self.keys.items()),
            ],
        )

    def clean_thresholds(self) -> tuple[int, ...]:
        return read_thresholds(self.cleaned_data["thresholds"])

    def clean_models(self) -> tuple[str, ...]:
        return tuple(part.strip() for part in self.cleaned_data["models"].split(",") if part.strip())

    def _choose(self, name: str, choices: Sequence[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = list(choices)


class LimitChangeForm(forms.Form):
    amount = forms.DecimalField(label="How much", min_value=0, max_digits=24, decimal_places=6)
    enforcement = forms.ChoiceField(label="At the limit", choices=ENFORCEMENTS)
    thresholds = forms.CharField(label="Tell us at, percent", required=False)

    def clean_thresholds(self) -> tuple[int, ...]:
        return read_thresholds(self.cleaned_data["thresholds"])


def terms_of(quota: Quota) -> dict[str, Any]:
    """What a LimitChangeForm begins with."""
    return {
        "amount": f"{quota.amount.normalize():f}",
        "enforcement": quota.enforcement,
        "thresholds": ", ".join(str(percent) for percent in quota.thresholds),
    }


class SimulationForm(forms.Form):
    """A call that is only imagined; bound to the address."""

    key = forms.ChoiceField(label="API key")
    model = forms.CharField(label="Model", max_length=200)
    prompt = forms.IntegerField(label="Tokens in the prompt", required=False, min_value=0, max_value=10**9)
    answer = forms.IntegerField(label="Tokens in the answer", required=False, min_value=0, max_value=10**9)
    end_user = forms.CharField(label="End user", required=False, max_length=200)
    address = forms.GenericIPAddressField(label="From the address", required=False)

    def __init__(self, *args: Any, organisation: Organisation, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["key"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [(key.public_id, key.name) for key in _recent_keys(organisation)]


def read_thresholds(text: str) -> tuple[int, ...]:
    """ "80, 100" as numbers; raises ValidationError."""
    parts = [part.strip().removesuffix("%") for part in text.split(",") if part.strip()]
    if not all(part.isascii() and part.isdigit() and 0 < int(part) <= 1000 for part in parts) or len(parts) > 10:
        raise forms.ValidationError("Give percentages from 1 to 1000, with commas: 80, 100.", code="thresholds")
    return tuple(sorted({int(part) for part in parts}))


class AlertSettingsForm(forms.ModelForm):
    emails = forms.CharField(
        label="E-mail to",
        required=False,
        help_text="Addresses with commas; empty: owners, admins and billing members.",
    )

    class Meta:
        model = AlertSettings
        fields = ("emails", "is_digest", "quiet_from", "quiet_until", "webhook_url", "change_percent")
        labels = {
            "is_digest": "One e-mail a day, at eight in the morning",
            "quiet_from": "Quiet from",
            "quiet_until": "Quiet until",
            "webhook_url": "Webhook",
            "change_percent": "Tell us when a day reaches this many percent of a usual one",
        }
        help_texts = {
            "quiet_from": "No e-mail in between, by your organisation's clock.",
            "webhook_url": "An https:// address. Each alert is posted there at once, signed as Standard Webhooks says.",
            "change_percent": "200 is twice as much. Empty: never.",
        }
        widgets = {
            "quiet_from": forms.TimeInput({"type": "time"}, format="%H:%M"),
            "quiet_until": forms.TimeInput({"type": "time"}, format="%H:%M"),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["emails"] = ", ".join(self.instance.emails)

    def clean_emails(self) -> list[str]:
        addresses = [part.strip() for part in self.cleaned_data["emails"].split(",") if part.strip()]
        if len(addresses) > MOST_ADDRESSES:
            raise forms.ValidationError(f"Give at most {MOST_ADDRESSES} addresses.", code="too_many")
        for address in addresses:
            validate_email(address)
        return addresses


class AdmissionSettingsForm(forms.ModelForm):
    class Meta:
        model = AdmissionSettings
        fields = (
            "when_unreachable",
            "unreachable_requests",
            "unreachable_amount",
            "default_input_tokens",
            "default_output_tokens",
        )
        labels = {
            "when_unreachable": "While Kilotoken cannot be reached",
            "unreachable_requests": "Calls to let through then, at most",
            "unreachable_amount": "Spend to let through then, at most",
            "default_input_tokens": "Tokens of a prompt, where the gateway does not say",
            "default_output_tokens": "Tokens of an answer, where the gateway does not say",
        }
        help_texts = {
            "unreachable_requests": "Per gateway process and outage; empty: not bounded by calls.",
            "unreachable_amount": "In the currency of your plan; empty: not bounded by spend.",
        }
