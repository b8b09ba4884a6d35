"""Organisations as operators see them, and their invitations."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from accounts import looking_in, memberships, organisations
from accounts.admin.asking import ask_first, reason_given
from accounts.admin_rows import OperatorAdmin, PagedInline, ReadOnlyAdmin
from accounts.errors import DomainError
from accounts.forms import zone_choices
from accounts.models import ApiKey, Invitation, Membership, Organisation, Project, User

SUSPENSION = "Their keys and tokens stop making anything new at once; usage, bills and members stay as they are."


class OrganisationAdminForm(forms.ModelForm):
    time_zone = forms.ChoiceField(choices=zone_choices, widget=UnfoldAdminSelectWidget)

    class Meta:
        model = Organisation
        fields = ("name", "time_zone")
        widgets = {"name": UnfoldAdminTextInputWidget}


class NewOrganisationForm(OrganisationAdminForm):
    owner = forms.ModelChoiceField(User.objects.filter(is_active=True), widget=UnfoldAdminSelectWidget)


class Members(PagedInline):
    """Roles may be changed here; the last owner stays one."""

    model = Membership
    fields = ("user", "role", "created_at")
    readonly_fields = ("user", "created_at")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("accounts.change_membership")


class Projects(PagedInline):
    model = Project
    fields = readonly_fields = ("public_id", "name", "is_default", "created_at", "archived_at")


class Keys(PagedInline):
    model = ApiKey
    fields = readonly_fields = ("public_id", "name", "project", "expires_at", "revoked_at", "last_used_at")
    show_change_link = True


@admin.register(Organisation)
class OrganisationAdmin(OperatorAdmin):
    form = OrganisationAdminForm
    list_display = ("name", "slug", "state", "member_count", "time_zone", "created_at")
    list_filter = (("suspended_at", admin.EmptyFieldListFilter),)
    search_fields = ("name", "slug", "public_id", "memberships__user__email")
    search_help_text = "Name, slug, id or a member's e-mail address"
    readonly_fields = ("public_id", "slug", "suspended_at", "created_at")
    inlines = (Members, Projects, Keys)
    actions = ("suspend_selected", "unsuspend_selected")
    actions_detail = ("look_in", "suspend_this", "unsuspend_this")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Organisation]:
        return super().get_queryset(request).annotate(member_total=Count("memberships", distinct=True))

    def get_form(self, request: HttpRequest, obj: Organisation | None = None, **kwargs: Any) -> Any:
        return super().get_form(request, obj, **({} if obj else {"form": NewOrganisationForm}), **kwargs)

    def get_fields(self, request: HttpRequest, obj: Organisation | None = None) -> Any:
        return ("name", "time_zone", *self.readonly_fields) if obj else ("name", "owner", "time_zone")

    def get_inlines(self, request: HttpRequest, obj: Organisation | None) -> Any:
        return self.inlines if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[Any]:
        """The one of suspending and lifting that the organisation's state asks for."""
        is_suspended = Organisation.objects.filter(pk=object_id, suspended_at__isnull=False).exists()
        idle = "suspend_this" if is_suspended else "unsuspend_this"
        found: list[Any] = super().get_actions_detail(request, object_id)
        return [one for one in found if one.method.original_function_name != idle]

    def save_model(self, request: HttpRequest, obj: Organisation, form: forms.ModelForm, change: bool) -> None:
        wanted = {"name": form.cleaned_data["name"], "time_zone": form.cleaned_data["time_zone"]}
        actor = _operator(request)
        if change:
            organisations.update_organisation(obj, **wanted, actor=actor, request=request)
        else:
            owner = form.cleaned_data["owner"]
            made = organisations.create_organisation(owner=owner, **wanted, actor=actor, request=request)
            obj.__dict__.update(made.__dict__)

    def save_formset(self, request: HttpRequest, form: forms.ModelForm, formset: Any, change: bool) -> None:
        """Only roles can have changed: through the verb, which keeps an owner."""
        for member in formset.save(commit=False):
            before = Membership.objects.select_related("organisation", "user").get(pk=member.pk)
            try:
                memberships.change_role(before, member.role, actor=_operator(request), request=request)
            except DomainError as error:
                messages.error(request, f"{member.user}: {error.sentence}")
        formset.new_objects, formset.changed_objects, formset.deleted_objects = [], [], []

    @display(description="State", label={"active": "success", "suspended": "danger"})
    def state(self, organisation: Organisation) -> str:
        return "suspended" if organisation.is_suspended else "active"

    @display(description="Members", ordering="member_total")
    def member_count(self, organisation: Any) -> int:
        return organisation.member_total

    @admin.action(description="Suspend…", permissions=("change",))
    def suspend_selected(self, request: HttpRequest, rows: QuerySet[Organisation]) -> HttpResponse | None:
        return self._suspend(request, rows, "suspend_selected")

    @admin.action(description="Lift the suspension…", permissions=("change",))
    def unsuspend_selected(self, request: HttpRequest, rows: QuerySet[Organisation]) -> HttpResponse | None:
        return self._unsuspend(request, rows, "unsuspend_selected")

    @action(description="Suspend…", url_path="suspension", permissions=("change",))
    def suspend_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        asked = self._suspend(request, Organisation.objects.filter(pk=object_id), "")
        return asked or redirect(reverse("admin:accounts_organisation_change", args=[object_id]))

    @action(description="Lift the suspension…", url_path="unsuspension", permissions=("change",))
    def unsuspend_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        asked = self._unsuspend(request, Organisation.objects.filter(pk=object_id), "")
        return asked or redirect(reverse("admin:accounts_organisation_change", args=[object_id]))

    def has_look_in_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return looking_in.may_look_in(request.user)

    @action(description="Look into the portal…", url_path="look", permissions=("look_in",))
    def look_in(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks what for, then leads to the page that was asked for, or to the overview."""
        asked = ask_first(
            self,
            request,
            Organisation.objects.filter(pk=object_id),
            action="",
            heading="Look into this portal?",
            consequence="You see what its members see, for half an hour, and can change nothing. The organisation's "
            "audit log names you, your reason and every page you open.",
            label="Look in",
            reason="What for",
        )
        if asked is not None:
            return asked
        organisation = get_object_or_404(Organisation, pk=object_id)
        looking_in.begin_look(
            request, organisation, operator=_operator(request), reason=reason_given(request), now=timezone.now()
        )
        wanted = request.GET.get("next", "")
        is_inside = wanted.startswith(f"/o/{organisation.slug}/")
        return redirect(wanted if is_inside else reverse("billing:overview", args=[organisation.slug]))

    def _suspend(self, request: HttpRequest, rows: QuerySet[Organisation], name: str) -> HttpResponse | None:
        asked = ask_first(
            self,
            request,
            rows,
            action=name,
            heading="Suspend these organisations?",
            consequence=SUSPENSION,
            label="Suspend",
        )
        if asked is None:
            done = sum(organisations.suspend(row, actor=_operator(request), request=request) for row in rows)
            messages.success(request, f"Suspended: {done}.")
        return asked

    def _unsuspend(self, request: HttpRequest, rows: QuerySet[Organisation], name: str) -> HttpResponse | None:
        asked = ask_first(
            self,
            request,
            rows,
            action=name,
            heading="Lift the suspension of these organisations?",
            consequence="They can use their keys and tokens again at once.",
            label="Lift the suspension",
        )
        if asked is None:
            done = sum(organisations.unsuspend(row, actor=_operator(request), request=request) for row in rows)
            messages.success(request, f"Lifted: {done}.")
        return asked


@admin.register(Invitation)
class InvitationAdmin(ReadOnlyAdmin):
    list_display = ("email", "organisation", "role", "state", "invited_by", "created_at", "expires_at")
    list_select_related = ("organisation", "invited_by")
    search_fields = ("email", "organisation__name", "organisation__slug", "public_id")
    fields = (
        "public_id",
        "organisation",
        "email",
        "role",
        "invited_by",
        "created_at",
        "expires_at",
        "accepted_at",
        "revoked_at",
    )
    actions = ("withdraw_selected",)

    @display(description="State", label={"pending": "info", "accepted": "success"})
    def state(self, invitation: Invitation) -> str:
        return invitation.status(timezone.now())

    @admin.action(description="Withdraw…", permissions=("act",))
    def withdraw_selected(self, request: HttpRequest, rows: QuerySet[Invitation]) -> HttpResponse | None:
        asked = ask_first(
            self,
            request,
            rows,
            action="withdraw_selected",
            heading="Withdraw these invitations?",
            consequence="Their links stop working at once.",
            label="Withdraw",
        )
        if asked is None:
            rows = rows.select_related("organisation")
            done = sum(memberships.withdraw_invitation(row, actor=_operator(request), request=request) for row in rows)
            messages.success(request, f"Withdrawn: {done}.")
        return asked


def _operator(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user
