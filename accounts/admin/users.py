"""Users and the groups of operators."""

from typing import Any

from allauth.account.models import EmailAddress
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group
from django.db.models import Model
from django.forms import ModelForm
from django.http import HttpRequest
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from accounts import audit
from accounts.admin_rows import OperatorAdmin, PagedInline
from accounts.models import Membership, User
from accounts.users import confirm_email

admin.site.unregister(Group)
admin.site.unregister(EmailAddress)


class NewUserForm(UserCreationForm):
    class Meta:
        model = User
        fields = ("email", "name")
        field_classes: dict[str, Any] = {}

    def clean_email(self) -> str:
        return self.cleaned_data["email"].strip().lower()


class ChangedUserForm(UserChangeForm):
    class Meta:
        model = User
        fields = "__all__"
        field_classes: dict[str, Any] = {}


class MembershipsOfUser(PagedInline):
    model = Membership
    fields = readonly_fields = ("organisation", "role", "created_at")


@admin.register(User)
class OurUserAdmin(UserAdmin, OperatorAdmin):
    """People. Who is not to come in any more is made inactive: what they did stays attributed."""

    form = ChangedUserForm
    add_form = NewUserForm
    change_password_form = AdminPasswordChangeForm
    ordering = ("email",)
    list_display = ("email", "name", "is_active", "is_staff", "created_at", "last_login")
    list_filter = ("is_active", "is_staff", "is_superuser")
    search_fields = ("email", "name")
    readonly_fields = ("email", "created_at", "last_login")
    filter_horizontal = ("groups", "user_permissions")
    fieldsets = (
        (None, {"fields": ("email", "name", "password")}),
        ("Operator", {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")}),
        ("E-mails", {"fields": ("wants_key_notices",)}),
        ("Times", {"fields": ("created_at", "last_login")}),
    )
    add_fieldsets = ((None, {"fields": ("email", "name", "usable_password", "password1", "password2")}),)
    inlines = (MembershipsOfUser,)

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        return self.readonly_fields if obj else ()

    def get_inlines(self, request: HttpRequest, obj: User | None) -> Any:
        return self.inlines if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: User, form: ModelForm, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if not change:
            confirm_email(obj)
        audit.record(
            "user.changed" if change else "user.created",
            organisation=None,
            actor=request.user if isinstance(request.user, User) else None,
            subject_label=obj.email,
            details={"fields": sorted(set(form.changed_data) - {"password1", "password2", "usable_password"})},
            request=request,
        )


@admin.register(Group)
class OurGroupAdmin(GroupAdmin, OperatorAdmin):
    """Sets of permissions for operators who are not superusers."""
