"""Revoking many keys at once: chosen ones, all of a project, or those that nobody has used for a while.

Each key is revoked once and has its own entry in the audit log. Asking again changes nothing more.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.api_keys import record_about_key
from accounts.audit import Actor
from accounts.errors import DomainError
from accounts.models import ApiKey, Organisation, Project

# Of one act; whoever has more asks again.
MOST_AT_ONCE = 200
LONGEST_REASON = 200


class NothingChosen(DomainError):
    code = "nothing_chosen"
    status = 422
    sentence = "Say which keys: by id, by project, or by how long they have not been used."


class TooManyKeys(DomainError):
    code = "too_many_keys"
    status = 422
    sentence = f"Revoke at most {MOST_AT_ONCE} keys at once."


class ReasonTooLong(DomainError):
    code = "invalid_reason"
    status = 422
    sentence = f"Give a reason of at most {LONGEST_REASON} characters."


@dataclass(frozen=True, slots=True)
class Revocation:
    """What came of it. `is_more`: keys that match were left for the next time."""

    revoked: list[ApiKey]
    is_more: bool


def keys_by_id(organisation: Organisation, ids: Collection[str]) -> QuerySet[ApiKey]:
    """The organisation's keys with these ids, ended ones included; ids of anybody else's are not found."""
    if not ids:
        raise NothingChosen
    if len(ids) > MOST_AT_ONCE:
        raise TooManyKeys
    return ApiKey.objects.for_organisation(organisation).filter(public_id__in=set(ids))


def keys_of(
    organisation: Organisation, *, project: Project | None = None, unused_since: datetime | None = None
) -> QuerySet[ApiKey]:
    """All keys of a project, all that were last used before an instant, or those for which both is true.

    A key that was never used counts from when it was made, so that a new one is not taken for an abandoned one.
    """
    if project is None and unused_since is None:
        raise NothingChosen
    rows = ApiKey.objects.for_organisation(organisation)
    if project is not None:
        rows = rows.filter(project=project)
    if unused_since is not None:
        rows = rows.unused_since(unused_since)
    return rows


@transaction.atomic
def revoke_api_keys(
    keys: QuerySet[ApiKey], *, actor: Actor, now: datetime, reason: str = "", request: HttpRequest | None = None
) -> Revocation:
    """End for good those of the keys that are not revoked yet, the oldest MOST_AT_ONCE of them."""
    reason = " ".join(reason.split())
    if len(reason) > LONGEST_REASON:
        raise ReasonTooLong
    rows = keys.filter(revoked_at=None).order_by("pk").select_related("organisation")
    locked = list(rows.select_for_update(of=("self",))[: MOST_AT_ONCE + 1])
    revoked = locked[:MOST_AT_ONCE]
    ApiKey.objects.filter(pk__in=[api_key.pk for api_key in revoked]).update(revoked_at=now)
    for api_key in revoked:
        api_key.revoked_at = now
        record_about_key(api_key, "api_key.revoked", actor, request, {"reason": reason} if reason else {})
    return Revocation(revoked, is_more=len(locked) > MOST_AT_ONCE)
