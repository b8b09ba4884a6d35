"""API keys: making, rotating, revoking, and finding out whose usage an event reports.

A secret leaves this module once, in the Credential returned by the verb that made it; only its digest is kept.
Resolving says to whom usage belongs, whether the key is live or not: usage happened. Whether a key may be used now is
asked of the row each time (`find_presented_key`), never of a cache. Changing a key is the matter of `key_changes`,
revoking many of `key_revocation`.
"""

import re
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from django.db import connection, transaction
from django.db.models import BigIntegerField, F, Q, QuerySet, Value
from django.db.models.functions import Cast
from django.http import HttpRequest
from django.utils import timezone

from accounts import audit, credentials, key_restrictions
from accounts.audit import Actor
from accounts.credentials import Credential
from accounts.errors import DomainError
from accounts.models import ApiKey, ApiKeySecret, Organisation, Project
from accounts.notices import leave_notices
from accounts.organisations import refuse_if_suspended
from accounts.prepared import run_prepared

# How long a process may remember to whom a subject belongs. That never changes for a key; an organisation's zone may.
CACHE_SECONDS = 30.0
CACHE_SIZE = 50_000
LONGEST_OVERLAP = timedelta(days=30)
# `last_used_at` is no finer than this, which keeps busy keys from being written with every batch.
LAST_USED_PRECISION = timedelta(minutes=1)

TOUCH_LAST_USED = """
WITH due AS (
    SELECT api_key.id, used.at
    FROM accounts_apikey AS api_key
    JOIN unnest(%(ids)s::bigint[], %(instants)s::timestamptz[]) AS used (id, at) ON used.id = api_key.id
    WHERE api_key.last_used_at IS NULL OR api_key.last_used_at < used.at - %(precision)s
    ORDER BY api_key.id
    FOR NO KEY UPDATE OF api_key SKIP LOCKED
)
UPDATE accounts_apikey AS api_key SET last_used_at = due.at FROM due WHERE api_key.id = due.id
"""

FIND_PRESENTED_KEY = """
SELECT organisation.id, organisation.public_id, organisation.time_zone, organisation.suspended_at IS NOT NULL,
    project.id, project.public_id, project.archived_at IS NOT NULL,
    api_key.id, api_key.public_id, api_key.revoked_at, LEAST(api_key.expires_at, secret.expires_at),
    api_key.allowed_models, api_key.allowed_networks
FROM accounts_apikeysecret AS secret
JOIN accounts_apikey AS api_key ON api_key.id = secret.api_key_id
JOIN accounts_project AS project ON project.id = api_key.project_id
JOIN accounts_organisation AS organisation ON organisation.id = api_key.organisation_id
WHERE secret.digest = %s
"""

DIGEST = re.compile(r"[0-9a-f]{64}")


class ApiKeyRevoked(DomainError):
    code = "api_key_revoked"
    sentence = "This key has been revoked and cannot be rotated. Create a new one."


class ApiKeyExpired(DomainError):
    code = "api_key_expired"
    sentence = "This key has expired and cannot be rotated. Create a new one."


class InvalidKeyName(DomainError):
    code = "invalid_name"
    status = 422
    sentence = "Enter a name of at most 120 characters."


class InvalidExpiry(DomainError):
    code = "invalid_expiry"
    status = 422
    sentence = "The expiry must be in the future."


class InvalidOverlap(DomainError):
    code = "invalid_overlap"
    status = 422
    sentence = "The overlap must be between nothing and 30 days."


class UnknownProject(DomainError):
    code = "unknown_project"
    status = 422
    sentence = "There is no such project."


class ProjectArchived(DomainError):
    code = "project_archived"
    sentence = "That project is archived: choose another."


@dataclass(frozen=True, slots=True)
class Subject:
    """To whom usage belongs. `api_key_id` is None when an event named only the organisation."""

    organisation_id: int
    project_id: int
    api_key_id: int | None
    time_zone: str


class PresentedKey(msgspec.Struct, frozen=True, gc=False):
    """A key as one of its secrets was presented, with all that decides whether it may be used."""

    organisation_id: int
    organisation_public_id: str
    time_zone: str
    is_suspended: bool
    project_id: int
    project_public_id: str
    is_project_archived: bool
    api_key_id: int
    api_key_public_id: str
    revoked_at: datetime | None
    # When this secret stops working: the end of the key or, after a rotation, of the overlap. None: it does not.
    expires_at: datetime | None
    allowed_models: list[str]
    allowed_networks: list[str]

    def status(self, now: datetime) -> str:
        """`active`, `revoked` or `expired`, as ApiKey.status says it of the whole key."""
        if self.revoked_at is not None:
            return "revoked"
        return "active" if self.expires_at is None or self.expires_at > now else "expired"

    def allows_model(self, model: str) -> bool:
        return key_restrictions.allows_model(self.allowed_models, model)

    def allows_address(self, address: str | None) -> bool:
        return key_restrictions.allows_address(self.allowed_networks, address)


@transaction.atomic
def create_api_key(
    organisation: Organisation,
    *,
    project: Project,
    name: str,
    actor: Actor,
    expires_at: datetime | None = None,
    allowed_models: Iterable[str] = (),
    allowed_networks: Iterable[str] = (),
    metadata: Mapping[str, str] | None = None,
    request: HttpRequest | None = None,
) -> tuple[ApiKey, Credential]:
    """Make a key of a project. The credential holds the secret, which is not kept: show it once."""
    refuse_if_suspended(organisation)
    project = _usable_project(organisation, project)
    if expires_at is not None and expires_at <= timezone.now():
        raise InvalidExpiry
    api_key = ApiKey.objects.create(
        organisation=organisation,
        project=project,
        name=valid_key_name(name),
        created_by=audit.person(actor),
        expires_at=expires_at,
        allowed_models=key_restrictions.valid_models(allowed_models),
        allowed_networks=key_restrictions.valid_networks(allowed_networks),
        metadata=key_restrictions.valid_metadata(metadata or {}),
    )
    credential = _add_secret(api_key)
    details = {"project": project.public_id, "prefix": credential.prefix, "last_four": credential.last_four}
    record_about_key(api_key, "api_key.created", actor, request, details)
    return api_key, credential


@transaction.atomic
def rotate_api_key(
    api_key: ApiKey,
    *,
    overlap: timedelta,
    actor: Actor,
    request: HttpRequest | None = None,
    now: datetime | None = None,
) -> Credential:
    """Add a secret; those before it end after `overlap`, at once when it is zero. An earlier end is kept."""
    now = now or timezone.now()
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        raise InvalidOverlap
    locked = ApiKey.objects.select_for_update().get(pk=api_key.pk)
    refuse_if_suspended(locked.organisation)
    if locked.revoked_at is not None:
        raise ApiKeyRevoked
    if not locked.is_live(now):
        raise ApiKeyExpired
    end = now + overlap
    still_open = ApiKeySecret.objects.filter(Q(expires_at=None) | Q(expires_at__gt=end), api_key=locked)
    still_open.update(expires_at=end)
    credential = _add_secret(locked)
    details = {"last_four": credential.last_four, "overlap_seconds": int(overlap.total_seconds())}
    record_about_key(locked, "api_key.rotated", actor, request, details)
    return credential


@transaction.atomic
def revoke_api_key(
    api_key: ApiKey, *, actor: Actor, request: HttpRequest | None = None, now: datetime | None = None
) -> bool:
    """End a key for good, with all its secrets. Returns whether anything changed."""
    now = now or timezone.now()
    changed = ApiKey.objects.filter(pk=api_key.pk, revoked_at=None).update(revoked_at=now)
    if changed:
        api_key.revoked_at = now
        record_about_key(api_key, "api_key.revoked", actor, request, {})
    return bool(changed)


def find_presented_key(digest: str) -> PresentedKey | None:
    """The key with that digest, as things stand now: one look-up, never from memory. None if there is no such key."""
    row = run_prepared(FIND_PRESENTED_KEY, [digest]).fetchone()
    return PresentedKey(*row) if row is not None else None


def resolve_subjects(subjects: Collection[str]) -> dict[str, Subject]:
    """To whom the subjects of events belong: public ids of keys and organisations, and digests of keys.

    One query for any number; none for what this process looked up in the last half minute. Unknown ones are missing
    from the answer and are looked up again next time, so that a key counts from the moment it exists.
    """
    now = time.monotonic()
    found: dict[str, Subject] = {}
    missing: list[str] = []
    for subject in set(subjects):
        kept = _cache.get(subject)
        if kept is not None and kept[0] > now:
            found[subject] = kept[1]
        else:
            missing.append(subject)
    if missing:
        fresh = _look_up(missing)
        if len(_cache) + len(fresh) > CACHE_SIZE:
            _cache.clear()
        _cache.update((subject, (now + CACHE_SECONDS, owner)) for subject, owner in fresh.items())
        found.update(fresh)
    return found


def touch_last_used(pairs: Mapping[int, datetime]) -> int:
    """Note when keys (by primary key) were last used, in one statement; returns the rows written.

    Never goes back in time, never waits: a row that somebody else holds is left for the next time.
    """
    if not pairs:
        return 0
    parameters: dict[str, Any] = {
        "ids": list(pairs),
        "instants": list(pairs.values()),
        "precision": LAST_USED_PRECISION,
    }
    with connection.cursor() as cursor:
        cursor.execute(TOUCH_LAST_USED, parameters)
        return cursor.rowcount


# Subject -> (when to look again on the monotonic clock, to whom it belongs).
_cache: dict[str, tuple[float, Subject]] = {}


def forget_subjects() -> None:
    """Empty this process's memory of subjects."""
    _cache.clear()


def _look_up(subjects: list[str]) -> dict[str, Subject]:
    parts: list[QuerySet[Any]] = []
    if keys := [subject for subject in subjects if subject.startswith("key_")]:
        columns = _columns("public_id", "project_id", F("id"), "organisation")
        parts.append(ApiKey.objects.filter(public_id__in=keys).annotate(**columns))
    if digests := [subject for subject in subjects if DIGEST.fullmatch(subject)]:
        columns = _columns("digest", "api_key__project_id", F("api_key_id"), "api_key__organisation")
        parts.append(ApiKeySecret.objects.filter(digest__in=digests).annotate(**columns))
    if organisations := [subject for subject in subjects if subject.startswith("org_")]:
        columns = _columns("organisation__public_id", "id", Cast(Value(None), BigIntegerField()), "organisation")
        rows = Project.objects.filter(is_default=True, organisation__public_id__in=organisations)
        parts.append(rows.annotate(**columns))
    if not parts:
        return {}
    first, *others = [part.order_by().values_list("of_subject", "of", "in_project", "by_key", "zone") for part in parts]
    return {subject: Subject(*owner) for subject, *owner in first.union(*others, all=True).order_by()}


def _columns(subject: str, project: str, api_key: Any, organisation: str) -> dict[str, Any]:
    return {
        "of_subject": F(subject),
        "of": F(f"{organisation}_id"),
        "in_project": F(project),
        "by_key": api_key,
        "zone": F(f"{organisation}__time_zone"),
    }


def _add_secret(api_key: ApiKey) -> Credential:
    credential = credentials.new_credential(credentials.API_KEY)
    ApiKeySecret.objects.create(
        api_key=api_key,
        digest=credential.digest,
        prefix=credential.prefix,
        last_four=credential.last_four,
    )
    return credential


def _usable_project(organisation: Organisation, project: Project) -> Project:
    """The project, locked against being archived meanwhile."""
    found = Project.objects.for_organisation(organisation).filter(pk=project.pk).select_for_update().first()
    if found is None:
        raise UnknownProject
    if found.archived_at is not None:
        raise ProjectArchived
    return found


def valid_key_name(name: str) -> str:
    """The name without stray blanks; InvalidKeyName if there is none or too much of it."""
    name = " ".join(name.split())
    if not name or len(name) > 120:
        raise InvalidKeyName
    return name


def record_about_key(
    api_key: ApiKey, action: str, actor: Actor, request: HttpRequest | None, details: Mapping[str, object]
) -> None:
    """An entry about a key, as every verb leaves one, and notices of it to those who are to hear."""
    entry = audit.record(
        action,
        organisation=api_key.organisation,
        actor=actor,
        subject_id=api_key.public_id,
        subject_label=api_key.name,
        details=details,
        request=request,
    )
    leave_notices(entry, maker=api_key.created_by)
