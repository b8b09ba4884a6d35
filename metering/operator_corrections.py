"""Corrections that operators make: an event voided, or other data let count in its place.

The correction's id follows from the event's name, so that the same act twice is one. Every act is in the audit log,
also one that intake refused. Both events stay visible.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import HttpRequest

from accounts.audit import Actor, record
from accounts.errors import DomainError
from accounts.models import Organisation
from metering.correcting import AMENDMENT, VOID
from metering.drafts import EVENT_MAX_BYTES, make_draft
from metering.event_lookup import Feed, feeds_of
from metering.exact_json import NotStorable, check_storable, decode_object
from metering.identity import event_key
from metering.intake import Verdict, accept

# The source of events that operators make.
OPERATORS = "kilotoken/operators"


class UnusableData(DomainError):
    code = "unusable_data"
    status = 422


@dataclass(frozen=True, slots=True)
class Difference:
    """What an amendment would change of one meter and model."""

    meter: str
    model: str
    # None: it does not feed it.
    before: str | None
    after: str | None


def void_event(
    organisation: Organisation,
    *,
    source: str,
    event_id: str,
    reason: str,
    now: datetime,
    actor: Actor,
    backfill: bool = False,
    request: HttpRequest | None = None,
) -> Verdict:
    """Take an accepted event back, as an operator."""
    named, instruction = (source, event_id), {"corrects": {"source": source, "id": event_id}}
    verdict = _send(organisation, VOID, named, instruction, now=now, backfill=backfill)
    _record("void", organisation, named, verdict, reason, actor=actor, request=request)
    return verdict


def amend_event(
    organisation: Organisation,
    *,
    source: str,
    event_id: str,
    data: Mapping[str, Any],
    reason: str,
    now: datetime,
    actor: Actor,
    backfill: bool = False,
    request: HttpRequest | None = None,
) -> Verdict:
    """Let this data count in place of an accepted event's own, whole, as an operator."""
    named = (source, event_id)
    instruction = {"corrects": {"source": source, "id": event_id}, "data": dict(data)}
    verdict = _send(organisation, AMENDMENT, named, instruction, now=now, backfill=backfill)
    _record("amend", organisation, named, verdict, reason, actor=actor, request=request)
    return verdict


def data_from(text: str) -> dict[str, Any]:
    """The data that an operator wrote, numbers exact; UnusableData if it cannot be an event's."""
    try:
        data = decode_object(text)
        check_storable(text.encode(), data)
    except NotStorable as error:
        raise UnusableData(f"It {error}.") from error
    if len(text.encode()) > EVENT_MAX_BYTES:
        raise UnusableData(f"It is larger than the {EVENT_MAX_BYTES // 1024} KiB an event may have.")
    return data


def differences(
    organisation: Organisation, *, source: str, event_id: str, data: Mapping[str, Any]
) -> tuple[Difference, ...]:
    """What an amendment with this data would change, by meter and model; nothing is written."""
    before = _by_place(feeds_of(organisation, source=source, event_id=event_id))
    after = _by_place(feeds_of(organisation, source=source, event_id=event_id, data=data))
    places = dict.fromkeys([*before, *after])
    return tuple(
        Difference(*place, before.get(place), after.get(place))
        for place in places
        if before.get(place) != after.get(place)
    )


def _by_place(feeds: tuple[Feed, ...]) -> dict[tuple[str, str], str]:
    return {(feed.meter, feed.model): format(feed.value, "f") for feed in feeds}


def _send(
    organisation: Organisation,
    type: str,
    named: tuple[str, str],
    instruction: dict[str, Any],
    *,
    now: datetime,
    backfill: bool,
) -> Verdict:
    draft = make_draft(
        source=OPERATORS,
        event_id=f"{type.partition('.')[2]}-{event_key(*named).hex()}",
        type=type,
        subject=organisation.public_id,
        time=None,
        data=instruction,
    )
    [verdict] = accept([draft], format="operator", service_token_id=None, now=now, backfill=backfill)
    return verdict


def _record(
    act: str,
    organisation: Organisation,
    named: tuple[str, str],
    verdict: Verdict,
    reason: str,
    *,
    actor: Actor,
    request: HttpRequest | None,
) -> None:
    source, event_id = named
    record(
        f"event.{act}ed" if verdict.verdict == "accepted" else f"event.{act}_refused",
        organisation=organisation,
        actor=actor,
        subject_id=event_id[:64],
        subject_label=f"{source} {event_id}",
        details={"reason": reason, "verdict": verdict.verdict, "why": verdict.reason},
        request=request,
    )
