"""API keys as operators see them: never a secret; they can change what a key may do, and revoke."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminTextareaWidget

from accounts.admin.asking import ask_first, reason_given
from accounts.admin_rows import PagedInline, ReadOnlyAdmin, operator_of
from accounts.errors import DomainError
from accounts.forms import RestrictionFields
from accounts.key_changes import KeyChange, change_api_key, changes_of
from accounts.key_revocation import revoke_api_keys
from accounts.models import ApiKey, ApiKeySecret

CHANGEABLE = ("name", "expires_at", "allowed_models", "allowed_networks", "metadata")


class Secrets(PagedInline):
    """What may be known of a key's secrets."""

    model = ApiKeySecret
    fields = readonly_fields = ("prefix", "last_four", "digest", "created_at", "expires_at")


class ApiKeyAdminForm(RestrictionFields, forms.ModelForm):
    """What the verb would refuse is said at the form."""

    class Meta:
        model = ApiKey
        fields = ("name", "expires_at")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field, text in self.texts_of(self.instance).items():
            self.fields[field].widget = UnfoldAdminTextareaWidget(attrs={"rows": 3})
            self.initial[field] = text

    def clean(self) -> dict[str, Any]:
        filled: dict[str, Any] = super().clean() or self.cleaned_data
        if not self.errors:
            try:
                changes_of(self.instance, self.wanted(), timezone.now())
            except DomainError as error:
                raise forms.ValidationError(error.sentence) from error
        return filled

    def wanted(self) -> KeyChange:
        return KeyChange(**{field: self.cleaned_data[field] for field in CHANGEABLE})  # type: ignore[typeddict-item]


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    list_display = ("name", "organisation", "project", "secret", "state", "last_used_at", "created_at")
    list_select_related = ("organisation", "project")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter),)
    search_fields = ("name", "public_id", "organisation__name", "organisation__slug", "secrets__digest")
    search_help_text = "Name, id, organisation, or the SHA-256 that a gateway reports"
    form = ApiKeyAdminForm
    readonly_fields = ("public_id", "organisation", "project", "created_by", "created_at", "revoked_at", "last_used_at")
    fieldsets = (
        (None, {"fields": CHANGEABLE}),
        ("Facts", {"fields": readonly_fields}),
    )
    inlines = (Secrets,)
    actions = ("revoke_selected",)
    actions_detail = ("revoke_this",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_act_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: ApiKey, form: ApiKeyAdminForm, change: bool) -> None:
        changed = change_api_key(obj, form.wanted(), actor=operator_of(request), now=timezone.now(), request=request)
        obj.__dict__.update(changed.__dict__)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        return super().get_queryset(request).prefetch_related("secrets")

    @display(description="Key")
    def secret(self, api_key: ApiKey) -> str:
        return str(api_key.newest_secret)

    @display(description="State", label={"active": "success", "revoked": "danger", "expired": "warning"})
    def state(self, api_key: ApiKey) -> str:
        return api_key.status(timezone.now())

    @admin.action(description="Revoke…", permissions=("act",))
    def revoke_selected(self, request: HttpRequest, rows: QuerySet[ApiKey]) -> HttpResponse | None:
        return self._revoke(request, rows, "revoke_selected")

    @action(description="Revoke…", url_path="revocation", permissions=("act",))
    def revoke_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        asked = self._revoke(request, ApiKey.objects.filter(pk=object_id), "")
        return asked or redirect(reverse("admin:accounts_apikey_change", args=[object_id]))

    def _revoke(self, request: HttpRequest, rows: QuerySet[ApiKey], name: str) -> HttpResponse | None:
        asked = ask_first(
            self,
            request,
            rows,
            action=name,
            heading="Revoke these keys?",
            consequence="Calls that present them are refused from now on. This cannot be undone.",
            label="Revoke",
            reason="Reason, for the organisation's audit log",
        )
        if asked is None:
            done = revoke_api_keys(
                rows.order_by(),
                actor=operator_of(request),
                now=timezone.now(),
                reason=reason_given(request),
                request=request,
            )
            messages.success(request, f"Revoked: {len(done.revoked)}.")
        return asked
