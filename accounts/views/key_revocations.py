"""Revoking API keys: one from its page, several chosen in the list. Both ask first and name what will end."""

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone

from accounts import api_keys
from accounts.access import MemberRequest, member_required
from accounts.errors import DomainError
from accounts.forms import KeyRevocationForm
from accounts.key_revocation import keys_by_id, revoke_api_keys
from accounts.models import ApiKey, Capability


@member_required(Capability.MANAGE_KEYS)
def key_revocation(request: MemberRequest, public_id: str) -> HttpResponse:
    """Asks on GET, revokes on POST."""
    rows = ApiKey.objects.for_organisation(request.organisation).select_related("organisation")
    api_key = rows.filter(public_id=public_id).first()
    if api_key is None:
        raise Http404("There is no such key.")
    if request.method == "POST":
        if api_keys.revoke_api_key(api_key, actor=request.user, request=request):
            messages.success(request, f"The key “{api_key.name}” was revoked. Calls that present it are refused.")
        return redirect("accounts:keys", slug=request.organisation.slug)
    cancel_url = reverse("accounts:key", args=[request.organisation.slug, public_id])
    context = {"api_key": api_key, "cancel_url": cancel_url, "active_nav": "keys"}
    return render(request, "accounts/key_revocation.html", context)


@member_required(Capability.MANAGE_KEYS)
def keys_revocation(request: MemberRequest) -> HttpResponse:
    """Names the chosen keys on GET and asks for a reason, revokes them on POST. Ended ones are left out."""
    chosen = request.POST.getlist("key") if request.method == "POST" else request.GET.getlist("key")
    back = reverse("accounts:keys", args=[request.organisation.slug])
    try:
        rows = keys_by_id(request.organisation, chosen).filter(revoked_at=None)
    except DomainError as error:
        messages.warning(request, f"Nothing was revoked. {error.sentence}")
        return redirect(back)
    form = KeyRevocationForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        reason = form.cleaned_data["reason"]
        done = revoke_api_keys(rows, actor=request.user, now=timezone.now(), reason=reason, request=request)
        messages.success(request, _in_words(len(done.revoked)))
        return redirect(back)
    context = {
        "form": form,
        "keys": rows.select_related("project").prefetch_related("secrets").order_by("-pk"),
        "cancel_url": back,
        "active_nav": "keys",
    }
    return render(request, "accounts/keys_revocation.html", context)


def _in_words(count: int) -> str:
    if count == 0:
        return "These keys had been revoked before."
    return f"{count} {'key was' if count == 1 else 'keys were'} revoked. Calls that present them are refused."
