"""API keys: the list, one key, making, renaming, rotating, revoking. A secret is shown in one answer only."""

from datetime import datetime, timedelta

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts import api_keys
from accounts.access import MemberRequest, member_required
from accounts.credentials import Credential
from accounts.errors import DomainError
from accounts.first_event import curl_line
from accounts.forms import ApiKeyForm, KeyNameForm, RotationForm, expiry_of
from accounts.idempotency import Performed, perform_once
from accounts.models import ApiKey, Capability, Project
from accounts.pages import render_page

PER_PAGE = 50


@member_required()
@require_safe
def keys(request: MemberRequest) -> HttpResponse:
    now = timezone.now()
    rows = ApiKey.objects.for_organisation(request.organisation)
    show = "all" if request.GET.get("show") == "all" else "active"
    project = request.GET.get("project", "")
    shown = rows if show == "all" else rows.live(now)
    if project:
        shown = shown.filter(project__public_id=project)
    page = Paginator(shown.select_related("project").prefetch_related("secrets").order_by("-pk"), PER_PAGE).get_page(
        request.GET.get("page")
    )
    context = {
        "page_obj": page,
        "keys": [(api_key, api_key.status(now)) for api_key in page],
        "has_any": bool(page.paginator.count) or rows.exists(),
        "projects": Project.objects.for_organisation(request.organisation),
        "show": show,
        "project": project,
        "active_nav": "keys",
    }
    return render_page(request, "accounts/keys.html", context, part="key-list")


@member_required(Capability.MANAGE_KEYS)
@never_cache
def key_create(request: MemberRequest) -> HttpResponse:
    form = ApiKeyForm(request.POST or None, organisation=request.organisation)
    if request.method == "POST" and form.is_valid():
        try:
            done = _create(request, form, timezone.now())
        except DomainError as error:
            form.add_error(None, error.sentence)
        else:
            api_key = _key(request, done.result_id)
            return _secret_page(request, api_key, done.result[1] if done.result else None, "created")
    return render(request, "accounts/key_create.html", {"form": form, "active_nav": "keys"})


def _create(request: MemberRequest, form: ApiKeyForm, now: datetime) -> Performed[tuple[ApiKey, Credential]]:
    wanted = form.cleaned_data
    return perform_once(
        request.organisation,
        operation="api_key.created",
        key=wanted["request_key"],
        asked=[wanted["name"], wanted["project"].public_id, wanted["expires"]],
        perform=lambda: api_keys.create_api_key(
            request.organisation,
            project=wanted["project"],
            name=wanted["name"],
            actor=request.user,
            expires_at=expiry_of(wanted["expires"], now),
            request=request,
        ),
        identify=lambda made: made[0].public_id,
    )


@member_required()
@require_safe
def key(request: MemberRequest, public_id: str) -> HttpResponse:
    api_key = _key(request, public_id)
    return _key_page(request, api_key, KeyNameForm(initial={"name": api_key.name}))


@member_required(Capability.MANAGE_KEYS)
def key_name(request: MemberRequest, public_id: str) -> HttpResponse:
    """Renames; opened by address it is the key's page."""
    api_key = _key(request, public_id)
    form = KeyNameForm(request.POST)
    if request.method == "POST" and not form.is_valid():
        return _key_page(request, api_key, form)
    if request.method == "POST":
        api_keys.rename_api_key(api_key, form.cleaned_data["name"], actor=request.user, request=request)
        messages.success(request, "The name was saved.")
    return redirect("accounts:key", slug=request.organisation.slug, public_id=public_id)


@member_required(Capability.MANAGE_KEYS)
@never_cache
def key_rotation(request: MemberRequest, public_id: str) -> HttpResponse:
    """Asks for the overlap on GET, rotates on POST and shows the new secret."""
    api_key = _key(request, public_id)
    form = RotationForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        hours = int(form.cleaned_data["overlap"])
        try:
            done = perform_once(
                request.organisation,
                operation="api_key.rotated",
                key=form.cleaned_data["request_key"],
                asked=[public_id, hours],
                perform=lambda: api_keys.rotate_api_key(
                    api_key, overlap=timedelta(hours=hours), actor=request.user, request=request
                ),
                identify=lambda credential: public_id,
            )
        except DomainError as error:
            form.add_error(None, error.sentence)
        else:
            return _secret_page(request, api_key, done.result, "rotated")
    context = {"form": form, "api_key": api_key, "active_nav": "keys"}
    return render(request, "accounts/key_rotation.html", context)


@member_required(Capability.MANAGE_KEYS)
def key_revocation(request: MemberRequest, public_id: str) -> HttpResponse:
    """Asks on GET, revokes on POST."""
    api_key = _key(request, public_id)
    if request.method == "POST":
        if api_keys.revoke_api_key(api_key, actor=request.user, request=request):
            messages.success(request, f"The key “{api_key.name}” was revoked. Calls that present it are refused.")
        return redirect("accounts:keys", slug=request.organisation.slug)
    cancel_url = reverse("accounts:key", args=[request.organisation.slug, public_id])
    context = {"api_key": api_key, "cancel_url": cancel_url, "active_nav": "keys"}
    return render(request, "accounts/key_revocation.html", context)


def _key(request: MemberRequest, public_id: str) -> ApiKey:
    rows = ApiKey.objects.for_organisation(request.organisation).select_related("project", "created_by", "organisation")
    api_key = rows.prefetch_related("secrets").filter(public_id=public_id).first()
    if api_key is None:
        raise Http404("There is no such key.")
    return api_key


def _key_page(request: MemberRequest, api_key: ApiKey, form: KeyNameForm) -> HttpResponse:
    now = timezone.now()
    context = {
        "api_key": api_key,
        "status": api_key.status(now),
        "secrets": [secret for secret in api_key.secrets.all() if secret.expires_at is None or secret.expires_at > now],
        "form": form,
        "curl": curl_line(api_key.public_id),
        "active_nav": "keys",
    }
    return render(request, "accounts/key.html", context)


def _secret_page(request: MemberRequest, api_key: ApiKey, credential: Credential | None, act: str) -> HttpResponse:
    """The answer that carries the secret; sent again it says that the secret was not kept."""
    context = {
        "api_key": api_key,
        "secret": credential.secret if credential else None,
        "act": act,
        "curl": curl_line(api_key.public_id),
        "active_nav": "keys",
    }
    return render(request, "accounts/key_secret.html", context)
