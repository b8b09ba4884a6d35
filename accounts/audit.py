"""Records who did what. Called inside the transaction of the act, so that neither exists without the other.

Entries hold no secret, and the database refuses to change or delete one. Reading them is a matter for views.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from allauth.account.adapter import get_adapter
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from accounts.copying import copy_rows
from accounts.models import AuditEntry, Organisation, User

# A person, or the label of what acted in nobody's name: a token, a task, a command. None: the system itself.
type Actor = User | str | None

SYSTEM = "system"


def record(
    action: str,
    *,
    organisation: Organisation | None,
    actor: Actor = None,
    actor_label: str | None = None,
    subject_id: str = "",
    subject_label: str = "",
    details: Mapping[str, Any] | None = None,
    request: HttpRequest | None = None,
    into: list[AuditEntry] | None = None,
) -> AuditEntry:
    """Add an entry, or gather it in a list for `record_all`. `action` is a noun and a past participle:
    `api_key.revoked`. No organisation: the installation.

    `details` say what changed as {"field": [before, after]} or {"field": value}, in JSON's types.
    """
    label = actor_label or (actor.email if isinstance(actor, User) else actor) or SYSTEM
    entry = AuditEntry(
        organisation=organisation,
        actor=person(actor),
        actor_label=label[:254],
        action=action,
        subject_id=subject_id,
        subject_label=subject_label[:254],
        details=dict(details or {}),
        ip_address=client_address(request),
    )
    if into is None:
        entry.save()
    else:
        into.append(entry)
    return entry


def record_all(entries: Sequence[AuditEntry]) -> None:
    """Add entries that were gathered with `into`, by one statement; what the database fills in is not read back."""
    copy_rows(entries)


def person(actor: Actor) -> User | None:
    """The user behind an actor, for columns such as `created_by`."""
    return actor if isinstance(actor, User) else None


def client_address(request: HttpRequest | None) -> str | None:
    """Where a request came from, as allauth sees it for its rate limits; None when that cannot be said."""
    if request is None:
        return None
    try:
        return get_adapter().get_client_ip(request)
    except PermissionDenied:
        return None
