"""Service tokens, which operators make here, and organisations' access tokens, which they can revoke."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action, display
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from accounts import tokens
from accounts.admin.asking import ask_first
from accounts.admin_rows import ReadOnlyAdmin
from accounts.forms import EXPIRIES, expiry_of
from accounts.models import AccessToken, ServiceToken, User
from accounts.models.tokens import SERVICE_SCOPES, Token

SHOWN = (
    "public_id",
    "name",
    "scopes",
    "prefix",
    "last_four",
    "created_by",
    "created_at",
    "expires_at",
    "revoked_at",
    "last_used_at",
)


class ServiceTokenForm(forms.ModelForm):
    scopes = forms.MultipleChoiceField(
        choices=[(scope.value, scope.label) for scope in SERVICE_SCOPES], widget=UnfoldAdminCheckboxSelectMultipleWidget
    )
    expires = forms.ChoiceField(choices=EXPIRIES, required=False, widget=UnfoldAdminSelectWidget)

    class Meta:
        model = ServiceToken
        fields = ("name", "scopes")
        widgets = {"name": UnfoldAdminTextInputWidget}


class TokenAdmin(ReadOnlyAdmin):
    """What both kinds share."""

    list_display: tuple[str, ...] = ("name", "secret", "allowed", "state", "last_used_at", "created_at")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter),)
    search_fields: tuple[str, ...] = ("name", "public_id", "last_four")
    fields: Any = SHOWN
    actions = ("revoke_selected",)
    actions_detail = ("revoke_this",)

    @display(description="Token")
    def secret(self, token: Token) -> str:
        return f"{token.prefix}…{token.last_four}"

    @display(description="Scopes")
    def allowed(self, token: Token) -> str:
        return ", ".join(token.scopes)

    @display(description="State", label={"active": "success", "revoked": "danger", "expired": "warning"})
    def state(self, token: Token) -> str:
        return token.status(timezone.now())

    @admin.action(description="Revoke…", permissions=("act",))
    def revoke_selected(self, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponse | None:
        return self._revoke(request, rows, "revoke_selected")

    @action(description="Revoke…", url_path="revocation", permissions=("act",))
    def revoke_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        asked = self._revoke(request, self.model._default_manager.filter(pk=object_id), "")
        return asked or redirect(reverse(f"admin:accounts_{self.opts.model_name}_change", args=[object_id]))

    def _revoke(self, request: HttpRequest, rows: QuerySet[Any], name: str) -> HttpResponse | None:
        asked = ask_first(
            self,
            request,
            rows,
            action=name,
            heading="Revoke these tokens?",
            consequence="Requests that present them are refused from now on. This cannot be undone.",
            label="Revoke",
        )
        if asked is None:
            done = sum(tokens.revoke_token(row, actor=_operator(request), request=request) for row in rows)
            messages.success(request, f"Revoked: {done}.")
        return asked


@admin.register(ServiceToken)
class ServiceTokenAdmin(TokenAdmin):
    form = ServiceTokenForm

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("accounts.add_servicetoken")

    def get_fields(self, request: HttpRequest, obj: ServiceToken | None = None) -> Any:
        return SHOWN if obj else ("name", "scopes", "expires")

    def save_model(self, request: HttpRequest, obj: ServiceToken, form: forms.ModelForm, change: bool) -> None:
        wanted = form.cleaned_data
        token, credential = tokens.create_service_token(
            wanted["name"],
            wanted["scopes"],
            actor=_operator(request),
            expires_at=expiry_of(wanted["expires"], timezone.now()),
            request=request,
        )
        obj.__dict__.update(token.__dict__)
        request.new_secret = credential.secret  # type: ignore[attr-defined]

    def response_add(
        self, request: HttpRequest, obj: ServiceToken, post_url_continue: str | None = None
    ) -> HttpResponse:
        """The one answer that carries the secret; it goes into no message, cookie or session."""
        context = {
            **self.admin_site.each_context(request),
            "title": f"“{obj.name}” is ready",
            "opts": self.opts,
            "token": obj,
            "secret": request.new_secret,  # type: ignore[attr-defined]
        }
        response = TemplateResponse(request, "accounts/admin_secret.html", context)
        response["Cache-Control"] = "no-store"
        return response


@admin.register(AccessToken)
class AccessTokenAdmin(TokenAdmin):
    list_display = ("name", "organisation", "secret", "allowed", "state", "last_used_at", "created_at")
    list_select_related = ("organisation",)
    search_fields = ("name", "public_id", "last_four", "organisation__name", "organisation__slug")
    fields = ("organisation", *SHOWN)


def _operator(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user
