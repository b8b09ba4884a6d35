"""Operators' looks into a customer's portal: for a reason, for half an hour, to read and never to change.

A look begins in the admin and is kept in the operator's session. The organisation's audit log says that it began and
why, and names every page that was opened. While one lasts, requests that would change anything are refused, and what a
page asks of the database runs in a transaction that cannot write.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.http import HttpRequest

from accounts import audit
from accounts.models import Membership, Organisation, Role, User

PERMISSION = "accounts.look_into_organisation"
LENGTH = timedelta(minutes=30)
# Pages of one look; then it has to be begun anew.
MOST_PAGES = 200
IN_SESSION = "looking_in"


@dataclass(frozen=True, slots=True)
class Look:
    """One that lasts."""

    reason: str
    until: datetime


def may_look_in(user: object) -> bool:
    return isinstance(user, User) and user.is_staff and user.has_perm(PERMISSION)


def begin_look(request: HttpRequest, organisation: Organisation, *, operator: User, reason: str, now: datetime) -> Look:
    """From now on, in place of any other look of this session."""
    look = Look(reason, now + LENGTH)
    request.session[IN_SESSION] = {
        "organisation": organisation.public_id,
        "reason": reason,
        "until": look.until.isoformat(),
        "pages": [],
    }
    _record(request, organisation, operator, "organisation.look_begun", {"reason": reason})
    return look


def end_look(request: HttpRequest, operator: User) -> Organisation | None:
    """Before its time; returns where it led, None when there was none."""
    kept = request.session.pop(IN_SESSION, None)
    organisation = Organisation.objects.filter(public_id=kept["organisation"]).first() if kept else None
    if organisation is not None:
        _record(request, organisation, operator, "organisation.look_ended", {})
    return organisation


def look_at(request: HttpRequest, organisation: Organisation, operator: User, now: datetime) -> Look | None:
    """The look that lets this page be opened, which is then noted; None when one has to be begun first."""
    kept = request.session.get(IN_SESSION)
    if not kept or kept["organisation"] != organisation.public_id:
        return None
    look = Look(kept["reason"], datetime.fromisoformat(kept["until"]))
    if look.until <= now or len(kept["pages"]) >= MOST_PAGES:
        return None
    if request.path not in kept["pages"]:
        kept["pages"].append(request.path)
        request.session.modified = True
        _record(request, organisation, operator, "organisation.looked_at", {"page": request.path})
    return look


def stand_in(organisation: Organisation, operator: User) -> Membership:
    """A viewer's membership that is stored nowhere."""
    return Membership(organisation=organisation, user=operator, role=Role.VIEWER)


@contextmanager
def reading_only() -> Iterator[None]:
    """Inside, the database refuses every change."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
        yield


def _record(
    request: HttpRequest, organisation: Organisation, operator: User, action: str, details: dict[str, str]
) -> None:
    audit.record(
        action,
        organisation=organisation,
        actor=operator,
        subject_id=organisation.public_id,
        subject_label=organisation.name,
        details=details,
        request=request,
    )
