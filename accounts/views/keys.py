"""API keys: the list, one key, making, changing, rotating. A secret is shown in one answer only."""

from datetime import datetime, timedelta

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts import api_keys
from accounts.access import MemberRequest, member_required
from accounts.credentials import Credential
from accounts.errors import DomainError
from accounts.first_event import curl_line
from accounts.forms import KEEP, ApiKeyForm, KeyChangeForm, RotationForm, expiry_of
from accounts.idempotency import Performed, perform_once
from accounts.key_changes import KeyChange, change_api_key
from accounts.models import ApiKey, AuditEntry, Capability, Project
from accounts.pages import render_page

PER_PAGE = 50
RESTRICTIONS = ("allowed_models", "allowed_networks", "metadata")
# Acts shown with a key; the audit log has them all.
HISTORY = 20


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
    typed = any(form[field].value() or form[field].errors for field in RESTRICTIONS)
    context = {"form": form, "restricted": typed, "active_nav": "keys"}
    return render(request, "accounts/key_create.html", context)


def _create(request: MemberRequest, form: ApiKeyForm, now: datetime) -> Performed[tuple[ApiKey, Credential]]:
    wanted = form.cleaned_data
    restrictions = {field: wanted[field] for field in RESTRICTIONS}
    return perform_once(
        request.organisation,
        operation="api_key.created",
        key=wanted["request_key"],
        asked=[wanted["name"], wanted["project"].public_id, wanted["expires"], *restrictions.values()],
        perform=lambda: api_keys.create_api_key(
            request.organisation,
            project=wanted["project"],
            name=wanted["name"],
            actor=request.user,
            expires_at=expiry_of(wanted["expires"], now),
            **restrictions,
            request=request,
        ),
        identify=lambda made: made[0].public_id,
    )


@member_required()
@require_safe
def key(request: MemberRequest, public_id: str) -> HttpResponse:
    """Facts, restrictions, all its secrets and what was done to it."""
    now = timezone.now()
    api_key = _key(request, public_id)
    history = AuditEntry.objects.for_organisation(request.organisation).filter(subject_id=public_id)
    context = {
        "api_key": api_key,
        "status": api_key.status(now),
        "secrets": [(secret, secret.is_live(now)) for secret in api_key.secrets.all()],
        "history": history.select_related("actor")[:HISTORY],
        "curl": curl_line(api_key.public_id),
        "active_nav": "keys",
    }
    return render(request, "accounts/key.html", context)


@member_required(Capability.MANAGE_KEYS)
def key_change(request: MemberRequest, public_id: str) -> HttpResponse:
    """Name, expiry, restrictions and notes. Of a key that has ended only name and notes can be changed."""
    now = timezone.now()
    api_key = _key(request, public_id)
    form = KeyChangeForm(request.POST or None, initial={"name": api_key.name, **KeyChangeForm.texts_of(api_key)})
    if not api_key.is_live(now):
        for field in ("expires", "allowed_models", "allowed_networks"):
            del form.fields[field]
    if request.method == "POST" and form.is_valid():
        try:
            change_api_key(api_key, _wanted(form, now), actor=request.user, now=now, request=request)
        except DomainError as error:
            form.add_error(None, error.sentence)
        else:
            messages.success(request, "The key was changed. What it may do holds from the next call on.")
            return redirect("accounts:key", slug=request.organisation.slug, public_id=public_id)
    context = {"form": form, "api_key": api_key, "active_nav": "keys"}
    return render(request, "accounts/key_change.html", context)


def _wanted(form: KeyChangeForm, now: datetime) -> KeyChange:
    """Only what was typed anew: untouched fields stay whatever somebody else has made of them meanwhile."""
    changed = [field for field in form.changed_data if field != "expires"]
    wanted = KeyChange(**{field: form.cleaned_data[field] for field in changed})  # type: ignore[typeddict-item]
    expires = form.cleaned_data.get("expires", KEEP)
    if expires != KEEP:
        wanted["expires_at"] = expiry_of(expires, now)
    return wanted


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


def _key(request: MemberRequest, public_id: str) -> ApiKey:
    rows = ApiKey.objects.for_organisation(request.organisation).select_related("project", "created_by", "organisation")
    api_key = rows.prefetch_related("secrets").filter(public_id=public_id).first()
    if api_key is None:
        raise Http404("There is no such key.")
    return api_key


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
