"""Changing a key that exists: its name, its end, what restricts it, the notes kept with it.

What a key may do changes with the next call that presents it. Its project never changes, since usage that was metered
belongs there; nor does a revoked key come back, or an expired one.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypedDict

from django.db import transaction
from django.http import HttpRequest

from accounts.api_keys import ApiKeyExpired, ApiKeyRevoked, InvalidExpiry, record_about_key, valid_key_name
from accounts.audit import Actor
from accounts.key_restrictions import valid_metadata, valid_models, valid_networks
from accounts.models import ApiKey

# Of a note, in the audit log.
LONGEST_SHOWN = 80
NO_LIMIT = "any"


class KeyChange(TypedDict, total=False):
    """What is to be different; what is left out stays."""

    name: str
    # None: the key does not expire.
    expires_at: datetime | None
    allowed_models: list[str]
    allowed_networks: list[str]
    # All of them: what is not named here goes.
    metadata: dict[str, str]


@transaction.atomic
def change_api_key(
    api_key: ApiKey, wanted: KeyChange, *, actor: Actor, now: datetime, request: HttpRequest | None = None
) -> ApiKey:
    """The key as wanted; what is so already is no change. Of a key that has ended only name and metadata change."""
    locked = ApiKey.objects.select_for_update(of=("self",)).select_related("organisation").get(pk=api_key.pk)
    changed = changes_of(locked, wanted, now)
    if changed:
        details: dict[str, object] = {}
        for field, value in changed.items():
            details |= _in_words(field, getattr(locked, field), value)
            setattr(locked, field, value)
        locked.save(update_fields=list(changed))
        action = "api_key.renamed" if set(changed) == {"name"} else "api_key.changed"
        record_about_key(locked, action, actor, request, details)
    return locked


def changes_of(api_key: ApiKey, wanted: KeyChange, now: datetime) -> dict[str, Any]:
    """The fields that would be different, in the form they are stored in; raises what `change_api_key` would raise."""
    changed = {field: value for field, value in _checked(wanted).items() if getattr(api_key, field) != value}
    _refuse_if_ended(api_key, changed, now)
    if changed.get("expires_at") is not None and changed["expires_at"] <= now:
        raise InvalidExpiry("The expiry must be in the future. To end a key now, revoke it.")
    return changed


def _checked(wanted: KeyChange) -> dict[str, Any]:
    checked: dict[str, Any] = dict(wanted)
    if "name" in wanted:
        checked["name"] = valid_key_name(wanted["name"])
    if "allowed_models" in wanted:
        checked["allowed_models"] = valid_models(wanted["allowed_models"])
    if "allowed_networks" in wanted:
        checked["allowed_networks"] = valid_networks(wanted["allowed_networks"])
    if "metadata" in wanted:
        checked["metadata"] = valid_metadata(wanted["metadata"])
    return checked


def _refuse_if_ended(api_key: ApiKey, changed: Mapping[str, Any], now: datetime) -> None:
    if not set(changed) - {"name", "metadata"}:
        return
    if api_key.revoked_at is not None:
        raise ApiKeyRevoked("This key has been revoked: what it may do can no longer be changed.")
    if not api_key.is_live(now):
        raise ApiKeyExpired("This key has expired: what it may do can no longer be changed. Create a new one.")


def _in_words(field: str, before: Any, after: Any) -> dict[str, object]:
    """How the audit log says it."""
    if field == "metadata":
        names = sorted(set(before) | set(after))
        notes = {name: [before.get(name), after.get(name)] for name in names if before.get(name) != after.get(name)}
        return {f"metadata {name}": [_shortened(one), _shortened(other)] for name, (one, other) in notes.items()}
    if field == "expires_at":
        return {
            "expires": [instant.isoformat(timespec="minutes") if instant else "never" for instant in (before, after)]
        }
    if field == "name":
        return {"name": [before, after]}
    return {field: [", ".join(values) or NO_LIMIT for values in (before, after)]}


def _shortened(note: str | None) -> str:
    if note is None:
        return "none"
    return note if len(note) <= LONGEST_SHOWN else note[:LONGEST_SHOWN] + "…"
