"""What every page's template knows."""

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.http import HttpRequest

from accounts.models import Capability, Membership


def portal(request: HttpRequest) -> dict[str, Any]:
    """`organisation` and `membership` of the page, the `look` of an operator, `may` by capability,
    and the user's memberships for the switcher.

    Costs nothing by itself: memberships are read when a template walks through them, so not on anonymous pages.
    """
    membership: Membership | None = getattr(request, "membership", None)
    return {
        "organisation": getattr(request, "organisation", None),
        "membership": membership,
        "may": {capability.value: True for capability in Capability if membership and membership.may(capability)},
        "look": getattr(request, "look", None),
        "nav_memberships": _memberships(request),
        "development_mailbox": settings.DEVELOPMENT_MAILBOX is not None,
    }


def _memberships(request: HttpRequest) -> Iterable[Membership]:
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return ()
    return Membership.objects.filter(user=user).select_related("organisation").order_by("organisation__name", "pk")
