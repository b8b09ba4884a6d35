"""What becomes of events: how a verdict reads, and when two bodies under one identity are the same. Pure."""

from typing import Literal

import msgspec

from metering.drafts import Draft, body_of
from metering.event_store import Candidate, Known
from metering.exact_json import decode_object, same
from metering.models.events import RejectionReason
from metering.rejections import Rejection

Outcome = Literal["accepted", "duplicate", "conflict", "rejected"]


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What became of one event. Encodes to the JSON of the API's reply."""

    source: str
    event_id: str = msgspec.field(name="id")
    verdict: Outcome
    # Keys of the meters that an accepted event feeds; none: it matched nothing.
    meters: tuple[str, ...] = ()
    # None unless conflicting or rejected.
    reason: str | None = None
    detail: str | None = None
    # The event had no time: the time of receipt stands in.
    time_assumed: bool = False


def as_known(candidate: Candidate) -> Known:
    draft = candidate.draft
    return Known(draft.type, draft.subject, candidate.time, candidate.time_assumed, draft.raw_data)


def differences(candidate: Candidate, known: Known) -> list[str]:
    """Names of the members in which an event differs from what is stored. An assumed time differs from none."""
    draft = candidate.draft
    differing = [name for name in ("type", "subject") if getattr(draft, name) != getattr(known, name)]
    if candidate.time != known.time and not (candidate.time_assumed or known.time_assumed):
        differing.append("time")
    if draft.raw_data != known.data and not same(draft.data, decode_object(known.data)):
        differing.append("data")
    return differing


def conflict_of(candidate: Candidate, differing: list[str]) -> Rejection:
    detail = (
        f"An event with this source and id was accepted before, with another {' and '.join(differing)}. "
        "The first stands; give new usage an id of its own."
    )
    return rejection_of(candidate, RejectionReason.CONFLICT, detail)


def rejection_of(candidate: Candidate, reason: RejectionReason, detail: str) -> Rejection:
    return rejection_of_draft(candidate.position, candidate.draft, candidate.organisation_id, reason, detail)


def rejection_of_draft(
    position: int, draft: Draft, organisation_id: int | None, reason: RejectionReason, detail: str
) -> Rejection:
    return Rejection(position, organisation_id, reason, detail, draft.source, draft.event_id, body_of(draft))


def accepted(candidate: Candidate) -> Verdict:
    draft = candidate.draft
    return Verdict(draft.source, draft.event_id, "accepted", candidate.meters, None, None, candidate.time_assumed)


def duplicate(candidate: Candidate) -> Verdict:
    draft = candidate.draft
    return Verdict(draft.source, draft.event_id, "duplicate", (), None, None, candidate.time_assumed)


def refused(rejection: Rejection) -> Verdict:
    outcome: Outcome = "conflict" if rejection.reason == RejectionReason.CONFLICT else "rejected"
    return Verdict(rejection.source, rejection.event_id, outcome, (), str(rejection.reason), rejection.detail, False)
