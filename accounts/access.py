"""Who may see a page. Every view carries exactly one mark from here, in `view.access`, and a test looks for it.

`member_required` loads the organisation from the address: for anybody but its members it does not exist (404); a
member whose role lacks the capability is refused (403). Operators may look in (`looking_in`), once they have said why.
Templates decide nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import wraps
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode

from accounts import looking_in
from accounts.models import Capability, Membership, Organisation, User
from accounts.remembering import remembering

type View = Callable[..., HttpResponseBase]


class MemberRequest(HttpRequest):
    """What a view behind `member_required` receives."""

    user: User
    organisation: Organisation
    membership: Membership
    htmx: Any


class UserRequest(HttpRequest):
    """What a view behind `signed_in` receives."""

    user: User
    htmx: Any


READING = ("GET", "HEAD")
# Where the session remembers the organisation that was last looked at.
LAST_ORGANISATION = "last_organisation"


def public(view: View) -> View:
    """Anybody may see this."""
    view.access = "public"  # type: ignore[attr-defined]
    return view


def signed_in(view: View) -> View:
    """Anybody with an account may see this; others are asked to sign in."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return _sign_in(request)
        return view(request, *args, **kwargs)

    guarded.access = "signed_in"  # type: ignore[attr-defined]
    return guarded


def member_required(capability: Capability | None = None) -> Callable[[View], View]:
    """Members of the organisation in the address, with that capability if one is named.

    The view receives `request.organisation` and `request.membership`, and not the slug. While a page is only read, each
    remembered look-up is made once.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, slug: str, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return _sign_in(request)
            membership = _membership(request.user, slug)
            if membership is None:
                return _for_operators(request, slug, view, capability, args, kwargs)
            _remember(request, membership.organisation)
            with remembering() if request.method in READING else nullcontext():
                return _open(request, membership, view, capability, args, kwargs)

        guarded.access = f"member:{capability.value if capability else 'any'}"  # type: ignore[attr-defined]
        return guarded

    return decorate


def _membership(user: Any, slug: str) -> Membership | None:
    rows = Membership.objects.select_related("organisation")
    return rows.filter(user=user, organisation__slug=slug).first()


def _open(
    request: HttpRequest,
    membership: Membership,
    view: View,
    capability: Capability | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> HttpResponseBase:
    request.organisation = membership.organisation  # type: ignore[attr-defined]
    request.membership = membership  # type: ignore[attr-defined]
    if capability is not None and not membership.may(capability):
        raise PermissionDenied(f"Your role does not let you {capability.label}.")
    return view(request, *args, **kwargs)


def _for_operators(
    request: HttpRequest,
    slug: str,
    view: View,
    capability: Capability | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> HttpResponseBase:
    """The page of an organisation that the user does not belong to: nothing, or what an operator may look at."""
    user = request.user
    organisation = Organisation.objects.filter(slug=slug).first() if looking_in.may_look_in(user) else None
    if organisation is None or not isinstance(user, User):
        raise Http404("There is no such organisation.")
    if request.method not in READING:
        raise PermissionDenied("Operators look into a portal and change nothing there.")
    look = looking_in.look_at(request, organisation, user, timezone.now())
    if look is None:
        ask = reverse("admin:accounts_organisation_look_in", args=[organisation.pk])
        return redirect(f"{ask}?{urlencode({'next': request.get_full_path()})}")
    request.look = look  # type: ignore[attr-defined]
    with remembering(), looking_in.reading_only():
        return _open(request, looking_in.stand_in(organisation, user), view, capability, args, kwargs)


def _remember(request: HttpRequest, organisation: Organisation) -> None:
    """The home page leads to the organisation that was last looked at."""
    if request.session.get(LAST_ORGANISATION) != organisation.slug:
        request.session[LAST_ORGANISATION] = organisation.slug


def _sign_in(request: HttpRequest) -> HttpResponse:
    """To the sign-in page and back; an htmx request is told to load it as a whole page."""
    back = request.get_full_path() if request.method in READING else "/home/"
    if getattr(request, "htmx", False):
        response = HttpResponse(status=204)
        current = request.htmx.current_url_abs_path or "/home/"  # type: ignore[attr-defined]
        response["HX-Redirect"] = redirect_to_login(current)["Location"]
        return response
    return redirect_to_login(back)
