"""GET /v1/events: what became of an event. Other tenants' events do not exist."""

from dataclasses import asdict
from typing import Any

import msgspec
from django.http import HttpResponse
from rest_framework.request import Request

from accounts.api_auth import caller_of, resolve_organisation
from accounts.models import Scope
from accounts.problems import Problem
from metering.event_lookup import look_up_event

# A sender may ask for what it sent, and whoever reads usage for what it consists of.
MAY_ASK = frozenset({Scope.EVENTS_WRITE.value, Scope.USAGE_READ.value})
_encode = msgspec.json.Encoder(decimal_format="number").encode


def event_response(request: Request, source: str | None, event_id: str | None) -> HttpResponse:
    """The facts of the event that a request names; Problem 403, 400 or 404."""
    caller = caller_of(request)
    if not MAY_ASK & caller.scopes:
        scope = Scope.USAGE_READ.value
        raise Problem(403, "missing_scope", f"This token lacks the scope {scope}.", required_scope=scope)
    organisation = resolve_organisation(request)
    if not source or not event_id:
        raise Problem(400, "event_required", "Name the event: add source=… and id=… as they were sent.")
    facts = None
    if "\x00" not in source + event_id:
        is_operator = caller.organisation is None
        facts = look_up_event(organisation, source=source, event_id=event_id, with_unattributed=is_operator)
    if facts is None:
        raise Problem(404, "unknown_event", "Nothing of that name ever arrived.")
    return HttpResponse(_encode(_plain(asdict(facts))), content_type="application/json")


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    """Metered values as text, as everywhere; the event's own data as it was sent."""
    for feed in (facts["acceptance"] or {}).get("feeds", ()):
        feed["value"] = format(feed["value"], "f")
    return facts
