"""The forms of the portal's pages. They read what a person typed; what is allowed is decided by the verbs."""

import zoneinfo
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.utils.crypto import get_random_string

from accounts import key_restrictions
from accounts.errors import DomainError
from accounts.models import ApiKey, Organisation, Project, Role, Scope, User
from accounts.models.organisations import INVITATION_LIFE
from accounts.models.tokens import ACCESS_SCOPES

ROLE_TEXTS = {
    Role.OWNER: "Owner: everything, owners included",
    Role.ADMIN: "Admin: everything but owners",
    Role.BILLING: "Billing: plans, invoices, the audit log",
    Role.DEVELOPER: "Developer: keys, projects, access tokens",
    Role.VIEWER: "Viewer: reads everything, changes nothing",
}
EXPIRIES = [("", "Never"), ("7", "In 7 days"), ("30", "In 30 days"), ("90", "In 90 days"), ("365", "In a year")]
# Keys of one report by hand.
MOST_PASTED = 50
# The choice that leaves an expiry alone.
KEEP = "keep"
OVERLAPS = [("0", "At once"), ("1", "In an hour"), ("24", "In a day"), ("168", "In a week"), ("720", "In 30 days")]


def zone_choices() -> list[tuple[str, Any]]:
    """Every zone of the world, grouped by region; UTC first."""
    regions: dict[str, list[tuple[str, str]]] = {}
    for name in sorted(zoneinfo.available_timezones()):
        region, _, place = name.partition("/")
        if place and region not in {"Etc", "SystemV", "posix", "right"}:
            regions.setdefault(region, []).append((name, place.replace("_", " ")))
    return [("UTC", "UTC"), *regions.items()]


class OnceForm(forms.Form):
    """A form that makes something with a secret: its hidden key keeps a reload from making it twice."""

    request_key = forms.CharField(widget=forms.HiddenInput, max_length=64)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["request_key"].initial = get_random_string(32)


class OrganisationForm(forms.Form):
    name = forms.CharField(
        max_length=120, widget=forms.TextInput(attrs={"autocomplete": "organization", "autofocus": True})
    )
    time_zone = forms.ChoiceField(
        label="Time zone", help_text="Days and months of your usage begin at midnight here.", initial="UTC"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = zone_choices()
        current = self.initial.get("time_zone", "")
        self.fields["time_zone"].choices = _with_current(choices, current)  # type: ignore[attr-defined]


class ProfileForm(forms.ModelForm):
    class Meta:
        model = User
        fields = ("name", "wants_key_notices")
        labels = {"wants_key_notices": "E-mail me about keys and tokens"}
        widgets = {"name": forms.TextInput(attrs={"autocomplete": "name"})}
        help_texts = {
            "name": "How other members see you.",
            "wants_key_notices": "Owners and admins hear when somebody else makes, rotates or revokes one. "
            "You are told of a leaked key in any case.",
        }


class InvitationForm(forms.Form):
    email = forms.EmailField(
        label="E-mail address",
        max_length=254,
        help_text=f"They get a link that works for {INVITATION_LIFE.days} days.",
        widget=forms.EmailInput(attrs={"autocomplete": "off"}),
    )
    role = forms.ChoiceField(initial=Role.DEVELOPER)

    def __init__(self, *args: Any, may_make_owners: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["role"].choices = role_choices(may_make_owners)  # type: ignore[attr-defined]


class RoleForm(forms.Form):
    role = forms.ChoiceField(choices=Role.choices)


def words_of(text: str) -> list[str]:
    """What was typed between line ends, commas and blanks."""
    return text.replace(",", " ").split()


class RestrictionFields(forms.Form):
    """What a key may do and what is noted with it, typed as text; the cleaned values are lists and a mapping."""

    allowed_models = forms.CharField(
        label="Models",
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false", "autocapitalize": "off"}),
        help_text="Calls with other models are refused. One per line, such as gpt-5-mini, or claude-* for all that "
        "begin so. Empty: every model.",
    )
    allowed_networks = forms.CharField(
        label="Networks",
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false", "autocapitalize": "off"}),
        help_text="Calls from elsewhere are refused. One per line, such as 203.0.113.0/24, 2001:db8::/32 or one "
        "address. Empty: from anywhere.",
    )
    metadata = forms.CharField(
        label="Metadata",
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false", "autocapitalize": "off"}),
        help_text="Your own notes, one per line, such as team = search. They are part of the API's answers.",
    )

    def clean_allowed_models(self) -> list[str]:
        return _checked(key_restrictions.valid_models, words_of(self.cleaned_data["allowed_models"]))

    def clean_allowed_networks(self) -> list[str]:
        return _checked(key_restrictions.valid_networks, words_of(self.cleaned_data["allowed_networks"]))

    def clean_metadata(self) -> dict[str, str]:
        notes: dict[str, str] = {}
        for line in filter(str.strip, self.cleaned_data["metadata"].splitlines()):
            name, sign, text = (part.strip() for part in line.partition("="))
            if not sign:
                raise forms.ValidationError(f"Write “{line.strip()[:60]}” as a name, = and a text: team = search.")
            if name in notes:
                raise forms.ValidationError(f"“{name}” is named twice.")
            notes[name] = text
        return _checked(key_restrictions.valid_metadata, notes)

    @staticmethod
    def texts_of(api_key: ApiKey) -> dict[str, str]:
        """A key's restrictions as they would be typed."""
        return {
            "allowed_models": "\n".join(api_key.allowed_models),
            "allowed_networks": "\n".join(api_key.allowed_networks),
            "metadata": "\n".join(f"{name} = {' '.join(text.split())}" for name, text in api_key.metadata.items()),
        }


def _checked[T, V](rule: Callable[[T], V], value: T) -> V:
    try:
        return rule(value)
    except DomainError as error:
        raise forms.ValidationError(error.sentence) from error


class ApiKeyForm(RestrictionFields, OnceForm):
    field_order = ("name", "project", "expires")

    name = forms.CharField(
        max_length=120,
        help_text="What will use it, for instance “Support assistant, production”.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    project = forms.ModelChoiceField(
        Project.objects.none(), to_field_name="public_id", empty_label=None, help_text="Usage is shown by project."
    )
    expires = forms.ChoiceField(label="Expires", choices=EXPIRIES, required=False)

    def __init__(self, *args: Any, organisation: Organisation, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        projects = Project.objects.for_organisation(organisation).active()
        self.fields["project"].queryset = projects  # type: ignore[attr-defined]


class KeyChangeForm(RestrictionFields):
    name = forms.CharField(max_length=120, widget=forms.TextInput(attrs={"autocomplete": "off"}))
    expires = forms.ChoiceField(label="Expires", choices=[(KEEP, "As it is"), *EXPIRIES], required=False, initial=KEEP)

    field_order = ("name", "expires")


class KeyRevocationForm(forms.Form):
    reason = forms.CharField(
        max_length=200,
        required=False,
        help_text="Kept in the audit log.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class LeakedKeyForm(forms.Form):
    secrets = forms.CharField(
        label="The key",
        max_length=10_000,
        help_text="Whole, as you found it. Several: one per line.",
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false", "autocapitalize": "off", "autocomplete": "off"}),
    )
    url = forms.CharField(
        label="Where you found it",
        max_length=2000,
        required=False,
        help_text="An address, if there is one. Its owners see it.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "inputmode": "url"}),
    )

    def clean_secrets(self) -> list[str]:
        return self.cleaned_data["secrets"].split()[:MOST_PASTED]


class RotationForm(OnceForm):
    overlap = forms.ChoiceField(
        label="The old secret stops working",
        choices=OVERLAPS,
        initial="24",
        help_text="Until then both work, so that nothing breaks while you change over.",
    )


class ProjectForm(forms.Form):
    name = forms.CharField(
        max_length=120,
        help_text="A product, a team or a cost centre: keys and usage are shown by project.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class AccessTokenForm(OnceForm):
    name = forms.CharField(
        max_length=120,
        help_text="What will use it, for instance “Finance dashboard”.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    scopes = forms.MultipleChoiceField(
        label="It may",
        choices=[(scope.value, scope.label) for scope in ACCESS_SCOPES],
        widget=forms.CheckboxSelectMultiple,
        initial=[Scope.USAGE_READ.value],
    )
    expires = forms.ChoiceField(label="Expires", choices=EXPIRIES, required=False, initial="365")


class AuditFilterForm(forms.Form):
    action = forms.ChoiceField(label="What", required=False)
    actor = forms.ChoiceField(label="Who", required=False)

    def __init__(self, *args: Any, actions: list[str], actors: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["action"].choices = [("", "Everything"), *((name, name) for name in actions)]  # type: ignore[attr-defined]
        self.fields["actor"].choices = [("", "Everybody"), *((name, name) for name in actors)]  # type: ignore[attr-defined]


def role_choices(may_make_owners: bool) -> list[tuple[str, str]]:
    return [(role.value, text) for role, text in ROLE_TEXTS.items() if may_make_owners or role != Role.OWNER]


def expiry_of(days: str, now: datetime) -> datetime | None:
    """The instant that a choice of EXPIRIES stands for."""
    return now + timedelta(days=int(days)) if days else None


def _with_current(choices: list[tuple[str, Any]], current: str) -> list[tuple[str, Any]]:
    """Keep a zone that is set and not offered (an old name), so that saving another field does not change it."""
    offered = {name for _, group in choices if isinstance(group, list) for name, _ in group} | {"UTC"}
    return [(current, current), *choices] if current and current not in offered else choices
