"""Who calls the REST API, and whether the token's scopes allow it.

A revoked or expired token is refused at once: it is looked up for every request, or else the statement that acts on its
behalf looks whether it is live (`RememberedTokenAuthentication`). No secret is logged or repeated in an answer.
"""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Q
from django.http import Http404
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts import credentials, rate_limits
from accounts.models import AccessToken, Organisation, Scope, ServiceToken
from accounts.prepared import run_prepared
from accounts.problems import Problem

# `last_used_at` is no finer than this, so that a busy token costs one write a minute.
LAST_USED_PRECISION = timedelta(minutes=1)
CHALLENGE = 'Bearer realm="kilotoken"'


@dataclass(frozen=True, slots=True)
class Caller:
    """Who presented a token. `organisation` is None for a service token: it must name one with each request."""

    token: ServiceToken | AccessToken
    organisation: Organisation | None
    scopes: frozenset[str]

    # What DRF and Django ask of a user.
    is_authenticated = True
    is_anonymous = False
    is_active = True

    @property
    def label(self) -> str:
        """How the audit log names the caller."""
        kind = "service token" if isinstance(self.token, ServiceToken) else "access token"
        return f"{kind} {self.token.name} ({self.token.public_id})"


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer kt-service-…` or `kt-access-…`."""

    def secret_of(self, request: Request) -> str:
        return _bearer_secret(request)

    def authenticate(self, request: Request) -> tuple[Caller, ServiceToken | AccessToken]:
        token = _find_token(self.secret_of(request))
        now = timezone.now()
        if token is None:
            raise _unknown(request, now)
        if token.revoked_at is not None:
            raise _refusal("token_revoked", "This token has been revoked.")
        if not token.is_live(now):
            raise _refusal("token_expired", "This token has expired.")
        organisation = token.organisation if isinstance(token, AccessToken) else None
        _touch_last_used(token, now)
        return Caller(token, organisation, frozenset(token.scopes)), token

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE


class RememberedTokenAuthentication(TokenAuthentication):
    """For a view that is called thousands of times a second: a service token may be one that this process looked up
    seconds ago. The view acts by a statement that requires `LIVE_TOKEN`, or calls `confirm_token` before it acts."""

    def authenticate(self, request: Request) -> tuple[Caller, ServiceToken | AccessToken]:
        digest = credentials.digest_of(_bearer_secret(request))
        looked_up_at, caller = _remembered.get(digest, (float("-inf"), None))
        if caller is None or time.monotonic() - looked_up_at > REMEMBERED_SECONDS:
            caller, token = super().authenticate(request)
            if isinstance(token, ServiceToken):
                _remember(digest, caller)
        return caller, caller.token


def confirm_token(request: Request) -> None:
    """Look the token up now; Problem 401 unless it is live."""
    TokenAuthentication().authenticate(request)


# What a statement asks of the token with the id %(token)s at the moment %(received_at)s.
LIVE_TOKEN = f"""EXISTS (SELECT FROM {ServiceToken._meta.db_table}
    WHERE id = %(token)s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > %(received_at)s))"""
REMEMBERED_SECONDS = 5.0
REMEMBERED_TOKENS = 1000
# When each was looked up, by the digest of its secret.
_remembered: dict[str, tuple[float, Caller]] = {}


def _remember(digest: str, caller: Caller) -> None:
    if len(_remembered) >= REMEMBERED_TOKENS:
        _remembered.clear()
    _remembered[digest] = (time.monotonic(), caller)


class HasScope(BasePermission):
    """The caller's token carries the scope that `view.required_scopes` names, as one Scope or one per method."""

    def has_permission(self, request: Request, view: Any) -> bool:
        wanted = view.required_scopes
        if isinstance(wanted, dict):
            wanted = wanted.get("GET" if request.method == "HEAD" else request.method)
        if wanted is None:
            return True  # no such method here: DRF answers 405 by itself
        if wanted not in caller_of(request).scopes:
            scope = Scope(wanted).value
            raise Problem(403, "missing_scope", f"This token lacks the scope {scope}.", required_scope=scope)
        return True


def caller_of(request: Request) -> Caller:
    """Who presented the token, once TokenAuthentication has let the request in."""
    caller = request.user
    assert isinstance(caller, Caller)
    return caller


def resolve_organisation(request: Request, param: str = "organisation") -> Organisation:
    """The organisation that a request is about.

    An access token's own, always: naming another is 404, as if it did not exist. A service token must name one, by
    public id or slug, in the query or else in the body.
    """
    named = request.query_params.get(param) or _from_body(request, param)
    own = caller_of(request).organisation
    if own is not None:
        if named and named not in (own.public_id, own.slug):
            raise Http404
        return own
    if not named:
        detail = f"A service token must say which organisation: add {param}=org_… or its slug."
        raise Problem(400, "organisation_required", detail)
    organisation = Organisation.objects.named(named).first()
    if organisation is None:
        raise Problem(404, "unknown_organisation", "There is no such organisation.")
    return organisation


def _bearer_secret(request: Request) -> str:
    scheme, _, secret = request._request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if not scheme:
        raise _refusal("authentication_required", "Send your token as `Authorization: Bearer …`.")
    if scheme.lower() != "bearer" or not secret.strip():
        raise _refusal("authentication_malformed", "The Authorization header must read `Bearer` and your token.")
    return secret.strip()


def _find_token(secret: str) -> ServiceToken | AccessToken | None:
    """The token whose secret this is, live or not; None when there is none."""
    digest = credentials.digest_of(secret)
    token: ServiceToken | AccessToken | None = None
    if secret.startswith(credentials.SERVICE_TOKEN):
        token = _find_service_token(digest)
    elif secret.startswith(credentials.ACCESS_TOKEN):
        token = AccessToken.objects.select_related("organisation").filter(digest=digest).first()
    if token is None or not credentials.same_digest(token.digest, digest):
        return None
    return token


_SERVICE_TOKEN_FIELDS = [field.attname for field in ServiceToken._meta.concrete_fields]
_COLUMNS = ", ".join(str(field.column) for field in ServiceToken._meta.concrete_fields)
_FIND_SERVICE_TOKEN = f"SELECT {_COLUMNS} FROM {ServiceToken._meta.db_table} WHERE digest = %s"  # noqa: S608


def _find_service_token(digest: str) -> ServiceToken | None:
    """As the ORM would, for the price of one look-up: gateways send events one by one."""
    row = run_prepared(_FIND_SERVICE_TOKEN, [digest]).fetchone()
    return ServiceToken.from_db(DEFAULT_DB_ALIAS, _SERVICE_TOKEN_FIELDS, row) if row else None


def _touch_last_used(token: ServiceToken | AccessToken, now: datetime) -> None:
    """Note that a token was used, at most once a minute and with one conditional UPDATE."""
    cutoff = now - LAST_USED_PRECISION
    if token.last_used_at is not None and token.last_used_at > cutoff:
        return
    due = Q(last_used_at=None) | Q(last_used_at__lte=cutoff)
    type(token).objects.filter(due, pk=token.pk).update(last_used_at=now)


def _unknown(request: Request, now: datetime) -> Problem:
    """A guess or a mistake; who goes on like that from one place is told to wait, while valid tokens pass."""
    if rate_limits.is_within(rate_limits.UNKNOWN_TOKEN, request._request, now):
        return _refusal("unknown_token", "This token is not known here.")
    refusal = Problem(429, "too_many_attempts", "Too many unknown tokens came from your address. Wait a minute.")
    refusal.wait = rate_limits.wait_of(rate_limits.UNKNOWN_TOKEN, now)  # type: ignore[attr-defined]
    return refusal


def _refusal(code: str, detail: str) -> Problem:
    refusal = Problem(401, code, detail)
    refusal.auth_header = CHALLENGE  # type: ignore[attr-defined]
    return refusal


def _from_body(request: Request, param: str) -> str:
    if request.method in ("GET", "HEAD") or not isinstance(request.data, dict):
        return ""
    named = request.data.get(param, "")
    return named if isinstance(named, str) else ""


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the OpenAPI document describes TokenAuthentication."""

    target_class = "accounts.api_auth.TokenAuthentication"
    match_subclasses = True
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "A service token (`kt-service-…`) of the operator or an access token (`kt-access-…`) of an "
            "organisation. API keys (`sk-kt-…`) are for the AI gateway and open nothing here.",
        }
