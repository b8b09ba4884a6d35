"""A request about one event: may this caller ask, which event is meant, and the facts as JSON.

For the API of metering and that of billing, which adds the lines of bills. Other tenants' events do not exist.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import msgspec
from django.http import HttpResponse
from rest_framework.request import Request

from accounts.api_auth import caller_of, resolve_organisation
from accounts.api_keys import resolve_subjects
from accounts.models import Organisation, Scope
from accounts.problems import Problem
from metering.event_lookup import EventFacts, known_names, look_up_event

# A sender may ask for what it sent, and whoever reads usage for what it consists of.
MAY_ASK = frozenset({Scope.EVENTS_WRITE.value, Scope.USAGE_READ.value})
# Slashes in a path that are tried as the one between source and id.
MOST_SLASHES = 40
_encode = msgspec.json.Encoder(decimal_format="number").encode


def organisation_asked_about(request: Request) -> Organisation:
    """The organisation whose events the caller may ask about; Problem 403 or 400, Http404 for another's."""
    caller = caller_of(request)
    if not MAY_ASK & caller.scopes:
        scope = Scope.USAGE_READ.value
        raise Problem(403, "missing_scope", f"This token lacks the scope {scope}.", required_scope=scope)
    subject = request.query_params.get("subject", "")
    if subject and not request.query_params.get("organisation") and caller_of(request).organisation is None:
        return _organisation_of(subject)
    return resolve_organisation(request)


def facts_asked_for(request: Request, names: Sequence[tuple[str, str]]) -> EventFacts:
    """The facts of the event that has one of these names, source and id; Problem 403, 400, 404 or 409."""
    organisation = organisation_asked_about(request)
    is_operator = caller_of(request).organisation is None
    names = [name for name in names if "\x00" not in name[0] + name[1]]
    if len(names) > 1:
        names = known_names(organisation, names, with_unattributed=is_operator)
    if len(names) > 1:
        detail = "The path names more than one event. Ask with /v1/events?source=…&id=… instead."
        raise Problem(409, "ambiguous_event", detail)
    facts = None
    for source, event_id in names:
        facts = look_up_event(organisation, source=source, event_id=event_id, with_unattributed=is_operator)
    if facts is None:
        raise Problem(404, "unknown_event", "Nothing of that name ever arrived.")
    return facts


def _organisation_of(subject: str) -> Organisation:
    """A gateway knows the subject that it sent, and not always whose that is."""
    found = resolve_subjects({subject}) if "\x00" not in subject else {}
    if subject not in found:
        raise Problem(404, "unknown_subject", "No API key or organisation is called that, so nothing counts for it.")
    return Organisation.objects.get(pk=found[subject].organisation_id)


def names_in_path(path: str) -> list[tuple[str, str]]:
    """All ways to read a path as source and id, since a slash in either looks like the one between them."""
    places = [place for place, character in enumerate(path) if character == "/"]
    parts = [(path[:place], path[place + 1 :]) for place in places[:MOST_SLASHES]]
    return [(source, event_id) for source, event_id in parts if source and event_id]


def facts_response(facts: EventFacts, **further: Any) -> HttpResponse:
    """The facts as JSON, with further members. Metered values are text, as everywhere; data is as it was sent."""
    plain = asdict(facts)
    for feed in (plain["acceptance"] or {}).get("feeds", ()):
        feed["value"] = format(feed["value"], "f")
    return HttpResponse(_encode(plain | further), content_type="application/json")
