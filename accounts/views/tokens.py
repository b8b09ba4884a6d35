"""Access tokens of an organisation: the list, making one, revoking one."""

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts import tokens as verbs
from accounts.access import MemberRequest, member_required
from accounts.credentials import Credential
from accounts.errors import DomainError
from accounts.forms import AccessTokenForm, expiry_of
from accounts.idempotency import Performed, perform_once
from accounts.models import AccessToken, Capability


@member_required()
@require_safe
def access_tokens(request: MemberRequest) -> HttpResponse:
    now = timezone.now()
    rows = AccessToken.objects.for_organisation(request.organisation)
    context = {"tokens": [(token, token.status(now)) for token in rows], "active_nav": "tokens"}
    return render(request, "accounts/access_tokens.html", context)


@member_required(Capability.MANAGE_TOKENS)
@never_cache
def access_token_create(request: MemberRequest) -> HttpResponse:
    form = AccessTokenForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            done = _create(request, form)
        except DomainError as error:
            form.add_error(None, error.sentence)
        else:
            secret = done.result[1].secret if done.result else None
            context = {"token": _token(request, done.result_id), "secret": secret, "active_nav": "tokens"}
            return render(request, "accounts/access_token_secret.html", context)
    return render(request, "accounts/access_token_create.html", {"form": form, "active_nav": "tokens"})


def _create(request: MemberRequest, form: AccessTokenForm) -> Performed[tuple[AccessToken, Credential]]:
    wanted = form.cleaned_data
    return perform_once(
        request.organisation,
        operation="access_token.created",
        key=wanted["request_key"],
        asked=[wanted["name"], wanted["scopes"], wanted["expires"]],
        perform=lambda: verbs.create_access_token(
            request.organisation,
            name=wanted["name"],
            scopes=wanted["scopes"],
            actor=request.user,
            expires_at=expiry_of(wanted["expires"], timezone.now()),
            request=request,
        ),
        identify=lambda made: made[0].public_id,
    )


@member_required(Capability.MANAGE_TOKENS)
def access_token_revocation(request: MemberRequest, public_id: str) -> HttpResponse:
    """Asks on GET, revokes on POST."""
    token = _token(request, public_id)
    back = reverse("accounts:access_tokens", args=[request.organisation.slug])
    if request.method == "POST":
        if verbs.revoke_token(token, actor=request.user, request=request):
            messages.success(request, f"The token “{token.name}” was revoked.")
        return redirect(back)
    context = {"token": token, "cancel_url": back, "active_nav": "tokens"}
    return render(request, "accounts/access_token_revocation.html", context)


def _token(request: MemberRequest, public_id: str) -> AccessToken:
    rows = AccessToken.objects.for_organisation(request.organisation).select_related("organisation")
    token = rows.filter(public_id=public_id).first()
    if token is None:
        raise Http404("There is no such token.")
    return token
