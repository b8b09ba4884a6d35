"""Tokens for our own REST API: making and revoking them. How one is recognised is the matter of `accounts.api_auth`.

The secret leaves this module once, in the Credential returned on creation; only its digest is kept.
"""

from collections.abc import Collection
from datetime import datetime

from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from accounts import audit, credentials
from accounts.audit import Actor
from accounts.credentials import Credential
from accounts.errors import DomainError
from accounts.models import AccessToken, Organisation, ServiceToken
from accounts.models.tokens import ACCESS_SCOPES, SERVICE_SCOPES, Token
from accounts.notices import leave_notices
from accounts.organisations import refuse_if_suspended


class InvalidScopes(DomainError):
    code = "invalid_scopes"
    status = 422
    sentence = "Choose at least one scope of those that this kind of token may have."


class InvalidTokenName(DomainError):
    code = "invalid_name"
    status = 422
    sentence = "Enter a name of at most 120 characters."


class InvalidTokenExpiry(DomainError):
    code = "invalid_expiry"
    status = 422
    sentence = "The expiry must be in the future."


@transaction.atomic
def create_service_token(
    name: str,
    scopes: Collection[str],
    *,
    actor: Actor,
    expires_at: datetime | None = None,
    request: HttpRequest | None = None,
) -> tuple[ServiceToken, Credential]:
    """Make a token of the operator, which reaches every organisation. Show the secret once."""
    credential = credentials.new_credential(credentials.SERVICE_TOKEN)
    token = ServiceToken()
    _fill(token, credential, name, scopes, SERVICE_SCOPES, actor, expires_at)
    token.save()
    _record(token, "service_token.created", actor, request)
    return token, credential


@transaction.atomic
def create_access_token(
    organisation: Organisation,
    *,
    name: str,
    scopes: Collection[str],
    actor: Actor,
    expires_at: datetime | None = None,
    request: HttpRequest | None = None,
) -> tuple[AccessToken, Credential]:
    """Make a token of an organisation, which reaches nothing but that organisation. Show the secret once.

    A suspended organisation makes none; those it has go on reading.
    """
    refuse_if_suspended(organisation)
    credential = credentials.new_credential(credentials.ACCESS_TOKEN)
    token = AccessToken(organisation=organisation)
    _fill(token, credential, name, scopes, ACCESS_SCOPES, actor, expires_at)
    token.save()
    _record(token, "access_token.created", actor, request)
    return token, credential


@transaction.atomic
def revoke_token(
    token: ServiceToken | AccessToken,
    *,
    actor: Actor,
    request: HttpRequest | None = None,
    now: datetime | None = None,
) -> bool:
    """End a token for good. Returns whether anything changed."""
    now = now or timezone.now()
    changed = type(token).objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=now)
    if changed:
        token.revoked_at = now
        kind = "access_token" if isinstance(token, AccessToken) else "service_token"
        _record(token, f"{kind}.revoked", actor, request)
    return bool(changed)


def _fill(
    token: Token,
    credential: Credential,
    name: str,
    scopes: Collection[str],
    allowed: Collection[str],
    actor: Actor,
    expires_at: datetime | None,
) -> None:
    if not scopes or not set(scopes) <= set(allowed):
        raise InvalidScopes
    name = " ".join(name.split())
    if not name or len(name) > 120:
        raise InvalidTokenName
    if expires_at is not None and expires_at <= timezone.now():
        raise InvalidTokenExpiry
    token.name = name
    token.scopes = [scope for scope in allowed if scope in scopes]
    token.digest, token.prefix, token.last_four = credential.digest, credential.prefix, credential.last_four
    token.created_by = audit.person(actor)
    token.expires_at = expires_at


def _record(token: ServiceToken | AccessToken, action: str, actor: Actor, request: HttpRequest | None) -> None:
    entry = audit.record(
        action,
        organisation=token.organisation if isinstance(token, AccessToken) else None,
        actor=actor,
        subject_id=token.public_id,
        subject_label=token.name,
        details={"scopes": ", ".join(str(scope) for scope in token.scopes)},
        request=request,
    )
    leave_notices(entry, maker=token.created_by)
