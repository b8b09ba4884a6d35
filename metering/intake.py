"""The one way in for usage: judge, identify, commit, and a verdict per event.

Accepted means committed: `accept` returns after PostgreSQL has committed. An identity (organisation, source, event
id) is accepted once, however often, in whatever batches and by however many processes it is sent; another body under
the same identity is a conflict, kept aside. Nothing that was sent is lost: refusals are stored with their reason in
the same transaction. Knows no wire format (see `metering.formats`) and folds nothing (see `metering.aggregation`).
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from accounts.api_keys import Subject
from metering.committing import commit, store_corrections
from metering.correcting import CORRECTING_TYPES, rounds_of
from metering.drafts import Draft, Refusal, make_draft
from metering.event_store import Candidate, Origin
from metering.identity import event_key, identity
from metering.judging import Unacceptable, check_time, fed_meters, unknown_subject
from metering.rejections import Rejection
from metering.terms import Terms, terms_of
from metering.verdicts import Verdict, accepted, as_known, conflict_of, differences, duplicate, rejection_of_draft

__all__ = ["Draft", "Refusal", "Verdict", "accept", "make_draft"]


def accept(
    drafts: Sequence[Draft | Refusal],
    *,
    format: str,
    service_token_id: int | None,
    now: datetime,
    backfill: bool = False,
    assume_subject: Subject | None = None,
    confirm: Callable[[], None] | None = None,
) -> list[Verdict]:
    """Commit what can be accepted and keep the rest aside; verdicts in the order of the drafts.

    `backfill` takes events of any age; `assume_subject` puts all events down to one subject without looking it up.
    `confirm` raises if the service token is no longer live; it is called before anything is stored, but for small
    requests, which are stored by a statement that looks itself.
    """
    terms = terms_of(drafts, now=now, backfill=backfill, assume_subject=assume_subject, confirm=confirm)
    candidates, rejections = _judge(drafts, terms)
    firsts, repeats = _part_repeats(candidates, rejections)
    origin = Origin(format, service_token_id, now)
    corrections = [candidate for candidate in firsts if candidate.draft.type in CORRECTING_TYPES]
    if corrections:
        verdicts = _commit_with_corrections(firsts, corrections, rejections, origin, terms)
    else:
        verdicts = commit(firsts, rejections, origin, terms)
    for candidate in firsts:
        if candidate.position not in verdicts:
            verdicts[candidate.position] = accepted(candidate)
    for repeat, first in repeats:
        verdict = verdicts[first.position]
        verdicts[repeat.position] = duplicate(repeat) if verdict.verdict == "accepted" else verdict
    return [verdicts[position] for position in range(len(drafts))]


def _judge(drafts: Sequence[Draft | Refusal], terms: Terms) -> tuple[list[Candidate], list[Rejection]]:
    candidates, rejections = [], []
    for position, draft in enumerate(drafts):
        if isinstance(draft, Refusal):
            rejections.append(
                Rejection(position, None, draft.reason, draft.detail, draft.source, draft.event_id, draft.body)
            )
            continue
        subject = terms.assumed or terms.subjects.get(draft.subject)
        try:
            candidates.append(_candidate(position, draft, subject, terms))
        except Unacceptable as refusal:
            organisation_id = subject.organisation_id if subject else None
            rejections.append(rejection_of_draft(position, draft, organisation_id, refusal.reason, refusal.detail))
    return candidates, rejections


def _candidate(position: int, draft: Draft, subject: Subject | None, terms: Terms) -> Candidate:
    if subject is None:
        raise unknown_subject(draft)
    time = draft.time or terms.now
    if not terms.window.oldest <= time <= terms.window.newest:
        check_time(time, terms.window)
    key = event_key(draft.source, draft.event_id)
    return Candidate(
        position,
        draft,
        subject.organisation_id,
        subject.project_id,
        subject.api_key_id,
        key,
        identity(subject.organisation_id, key),
        time,
        draft.time is None,
        fed_meters(draft.data, time, terms.rules.get(draft.type, ())),
    )


def _part_repeats(
    candidates: list[Candidate], rejections: list[Rejection]
) -> tuple[list[Candidate], list[tuple[Candidate, Candidate]]]:
    """The first candidate of each identity, in the order of their places; and repeats with theirs.

    A repeat with another body is added to the rejections as a conflict.
    """
    firsts: dict[bytes, Candidate] = {}
    repeats = []
    for candidate in candidates:
        first = firsts.setdefault(candidate.identity, candidate)
        if first is candidate:
            continue
        if differing := differences(candidate, as_known(first)):
            rejections.append(conflict_of(candidate, differing))
        else:
            repeats.append((candidate, first))
    return list(firsts.values()), repeats


def _commit_with_corrections(
    candidates: list[Candidate],
    corrections: list[Candidate],
    rejections: list[Rejection],
    origin: Origin,
    terms: Terms,
) -> dict[int, Verdict]:
    """Corrections follow what they may name, in batches of their own."""
    others = [candidate for candidate in candidates if candidate.draft.type not in CORRECTING_TYPES]
    verdicts = commit(others, rejections, origin, terms)
    for ready in rounds_of(corrections):
        verdicts |= commit(ready, [], origin, terms, store_corrections)
    return verdicts
