"""Reports of secrets that were found where they do not belong. Whoever holds one may have it ended: that is the proof.

Takes whole secrets only; says of each whether it is one of ours and nothing else, whatever became of it. What is still
of use to a finder ends at once: the one secret of a key that has a newer one, else the key or token itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from django.db import transaction
from django.http import HttpRequest

from accounts import audit, credentials
from accounts.models import AccessToken, ApiKey, ApiKeySecret, Organisation, ServiceToken, User
from accounts.notices import leave_notices

ACTOR = "leaked-key report"
MOST_REPORTS = 500
LONGEST_SECRET = 255
LONGEST_URL = 500


@dataclass(frozen=True, slots=True)
class LeakedSecret:
    """A secret as somebody found it; `url` says where."""

    secret: str
    url: str = ""


@transaction.atomic
def report_leaked(found: Sequence[LeakedSecret], *, now: datetime, request: HttpRequest | None = None) -> list[bool]:
    """End what is ours; for each in order whether it is. The same look-ups are made whatever was sent."""
    digests = [credentials.digest_of(one.secret) for one in found]
    ours = _ours(digests)
    first_seen = {digest: one for one, digest in reversed(list(zip(found, digests, strict=True)))}
    for thing in ours.values():
        one = first_seen[thing.digest]
        if isinstance(thing, ApiKeySecret):
            _end_secret(thing, one, now, request)
        else:
            _end_token(thing, one, now, request)
    return [digest in ours and credentials.same_digest(ours[digest].digest, digest) for digest in digests]


def _ours(digests: list[str]) -> dict[str, ApiKeySecret | AccessToken | ServiceToken]:
    """In the order in which rows are locked, which is the same for every report."""
    found: list[ApiKeySecret | AccessToken | ServiceToken] = [
        *ApiKeySecret.objects.filter(digest__in=digests).order_by("api_key_id", "pk"),
        *AccessToken.objects.filter(digest__in=digests).select_related("organisation", "created_by").order_by("pk"),
        *ServiceToken.objects.filter(digest__in=digests).order_by("pk"),
    ]
    return {thing.digest: thing for thing in found}


def _end_secret(secret: ApiKeySecret, one: LeakedSecret, now: datetime, request: HttpRequest | None) -> None:
    """The key itself, unless rotation has given it another secret that goes on."""
    keys = ApiKey.objects.select_for_update(of=("self",)).select_related("organisation", "created_by")
    api_key = keys.get(pk=secret.api_key_id)
    secret = ApiKeySecret.objects.get(pk=secret.pk)
    if not api_key.is_live(now) or not secret.is_live(now):
        return
    ended = f"the secret {secret}"
    if secret.pk == api_key.newest_secret.pk:
        ended = "the key"
        ApiKey.objects.filter(pk=api_key.pk).update(revoked_at=now)
    else:
        ApiKeySecret.objects.filter(pk=secret.pk).update(expires_at=now)
    _record("api_key.leaked", api_key, api_key.organisation, api_key.created_by, ended, one, request)


def _end_token(
    token: AccessToken | ServiceToken, one: LeakedSecret, now: datetime, request: HttpRequest | None
) -> None:
    was_live = token.is_live(now)
    if not type(token).objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=now) or not was_live:
        return
    organisation = token.organisation if isinstance(token, AccessToken) else None
    kind = "access_token" if isinstance(token, AccessToken) else "service_token"
    _record(f"{kind}.leaked", token, organisation, token.created_by, "the token", one, request)


def _record(
    action: str,
    thing: ApiKey | AccessToken | ServiceToken,
    organisation: Organisation | None,
    maker: User | None,
    ended: str,
    one: LeakedSecret,
    request: HttpRequest | None,
) -> None:
    where = web_address(one.url)
    entry = audit.record(
        action,
        organisation=organisation,
        actor=ACTOR,
        subject_id=thing.public_id,
        subject_label=thing.name,
        details={"revoked": ended, **({"found at": where} if where else {})},
        request=request,
    )
    leave_notices(entry, maker=maker, is_urgent=True)


def web_address(url: str) -> str:
    """The address if it is one that may be shown to people, else nothing."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    is_plain = parts.scheme in {"http", "https"} and bool(parts.netloc) and url.isprintable()
    return url[:LONGEST_URL] if is_plain and " " not in url else ""
