"""API keys as operators see them: never a secret; they can revoke."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action, display

from accounts import api_keys
from accounts.admin.asking import ask_first
from accounts.admin_rows import PagedInline, ReadOnlyAdmin
from accounts.models import ApiKey, ApiKeySecret, User


class Secrets(PagedInline):
    """What may be known of a key's secrets."""

    model = ApiKeySecret
    fields = readonly_fields = ("prefix", "last_four", "digest", "created_at", "expires_at")


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    list_display = ("name", "organisation", "project", "secret", "state", "last_used_at", "created_at")
    list_select_related = ("organisation", "project")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter),)
    search_fields = ("name", "public_id", "organisation__name", "organisation__slug", "secrets__digest")
    search_help_text = "Name, id, organisation, or the SHA-256 that a gateway reports"
    fields = (
        "public_id",
        "name",
        "organisation",
        "project",
        "created_by",
        "created_at",
        "expires_at",
        "revoked_at",
        "last_used_at",
    )
    inlines = (Secrets,)
    actions = ("revoke_selected",)
    actions_detail = ("revoke_this",)

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
        )
        if asked is None:
            assert isinstance(request.user, User)
            rows = rows.select_related("organisation")
            done = sum(api_keys.revoke_api_key(row, actor=request.user, request=request) for row in rows)
            messages.success(request, f"Revoked: {done}.")
        return asked
