"""The forms of the portal's pages. They read what a person typed; what is allowed is decided by the verbs."""

import zoneinfo
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.utils.crypto import get_random_string

from accounts.models import Organisation, Project, Role, Scope, User
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
        fields = ("name",)
        widgets = {"name": forms.TextInput(attrs={"autocomplete": "name"})}
        help_texts = {"name": "How other members see you."}


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


class ApiKeyForm(OnceForm):
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


class KeyNameForm(forms.Form):
    name = forms.CharField(max_length=120, widget=forms.TextInput(attrs={"autocomplete": "off"}))


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
