"""Who may see a page. Every view carries exactly one mark from here, in `view.access`, and a test looks for it.

`member_required` loads the organisation from the address: for anybody but its members it does not exist (404); a
member whose role lacks the capability is refused (403). Templates decide nothing.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase

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
            request.organisation = membership.organisation  # type: ignore[attr-defined]
            request.membership = membership  # type: ignore[attr-defined]
            _remember(request, membership.organisation)
            if capability is not None and not membership.may(capability):
                raise PermissionDenied(f"Your role does not let you {capability.label}.")
            with remembering() if request.method in READING else nullcontext():
                return view(request, *args, **kwargs)

        guarded.access = f"member:{capability.value if capability else 'any'}"  # type: ignore[attr-defined]
        return guarded

    return decorate


def _membership(user: Any, slug: str) -> Membership:
    rows = Membership.objects.select_related("organisation")
    membership = rows.filter(user=user, organisation__slug=slug).first()
    if membership is None:
        raise Http404("There is no such organisation.")
    return membership


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
