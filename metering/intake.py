"""The one way in for usage: judge, identify, commit, and a verdict per event.

Accepted means committed: `accept` returns after PostgreSQL has committed. An identity (organisation, source, event
id) is accepted once, however often, in whatever batches and by however many processes it is sent; another body under
the same identity is a conflict, kept aside. Nothing that was sent is lost: refusals are stored with their reason in
the same transaction. Knows no wire format (see `metering.formats`) and folds nothing (see `metering.aggregation`).
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Literal

import msgspec
from django.conf import settings
from django.db import DatabaseError, OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper

from accounts.api_keys import Subject, resolve_subjects
from metering.catalogue import Rules, rules_by_event_type
from metering.correcting import CORRECTING_TYPES, find_effects, insert_effects, rounds_of
from metering.drafts import Draft, Refusal, body_of, make_draft
from metering.event_store import (
    Candidate,
    Known,
    Origin,
    copy_events,
    find_known,
    insert_alone,
    insert_batches,
    insert_unless_known,
    lock_month_turn,
    months_to_search,
    near_month_turn,
)
from metering.exact_json import decode_object, same
from metering.identity import event_key, identity
from metering.judging import Unacceptable, Window, check_time, fed_meters, unknown_subject, window_at
from metering.models.dropped_months import DroppedMonth
from metering.models.events import RejectionReason
from metering.partitions import ensure_partitions, month_of
from metering.rejections import Rejection, keep_rejections

__all__ = ["Draft", "Refusal", "Verdict", "accept", "make_draft"]

Outcome = Literal["accepted", "duplicate", "conflict", "rejected"]
# Tries of one transaction against deadlocks and the like; one retry is the rule, more mean that something is wrong.
ATTEMPTS = 4


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
    `confirm` raises if the service token is no longer live; it is called before anything is stored, but for a single
    event, which is stored by a statement that looks itself.
    """
    terms = _terms(drafts, now=now, backfill=backfill, assume_subject=assume_subject, confirm=confirm)
    candidates, rejections = _judge(drafts, terms)
    firsts, repeats = _part_repeats(candidates, rejections)
    origin = Origin(format, service_token_id, now)
    corrections = [candidate for candidate in firsts if candidate.draft.type in CORRECTING_TYPES]
    if corrections:
        verdicts = _commit_with_corrections(firsts, corrections, rejections, origin, terms)
    else:
        verdicts = _commit(firsts, rejections, origin, terms)
    for candidate in firsts:
        if candidate.position not in verdicts:
            verdicts[candidate.position] = _accepted(candidate)
    for repeat, first in repeats:
        verdict = verdicts[first.position]
        verdicts[repeat.position] = _duplicate(repeat) if verdict.verdict == "accepted" else verdict
    return [verdicts[position] for position in range(len(drafts))]


# --- Judging ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Terms:
    """What the events of one request are judged by."""

    now: datetime
    window: Window
    backfill: bool
    subjects: dict[str, Subject]
    assumed: Subject | None
    rules: dict[str, Rules]
    # None: the token has just been looked up, or there is none.
    confirm: Callable[[], None] | None


def _terms(
    drafts: Sequence[Draft | Refusal],
    *,
    now: datetime,
    backfill: bool,
    assume_subject: Subject | None,
    confirm: Callable[[], None] | None,
) -> _Terms:
    late_window = timedelta(days=settings.LATE_WINDOW_DAYS)
    kept_from = DroppedMonth.objects.events_kept_from() if backfill else None
    window = window_at(now, late_window=late_window, tolerance=_tolerance(), backfill=backfill, kept_from=kept_from)
    named = {draft.subject for draft in drafts if type(draft) is Draft} if assume_subject is None else set()
    subjects = resolve_subjects(named) if named else {}
    return _Terms(now, window, backfill, subjects, assume_subject, rules_by_event_type(), confirm)


def _tolerance() -> timedelta:
    return timedelta(seconds=settings.FUTURE_TOLERANCE_SECONDS)


def _judge(drafts: Sequence[Draft | Refusal], terms: _Terms) -> tuple[list[Candidate], list[Rejection]]:
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
            rejections.append(_rejected(position, draft, organisation_id, refusal.reason, refusal.detail))
    return candidates, rejections


def _candidate(position: int, draft: Draft, subject: Subject | None, terms: _Terms) -> Candidate:
    if subject is None:
        raise unknown_subject(draft)
    time = draft.time or terms.now
    if draft.time is not None:
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
    """The first candidate of each identity, sorted by it so that rivals lock in one order; and repeats with theirs.

    A repeat with another body is added to the rejections as a conflict.
    """
    firsts: dict[bytes, Candidate] = {}
    repeats = []
    for candidate in candidates:
        first = firsts.setdefault(candidate.identity, candidate)
        if first is candidate:
            continue
        if differing := _differing(candidate, _as_known(first)):
            rejections.append(_conflict(candidate, differing))
        else:
            repeats.append((candidate, first))
    return sorted(firsts.values(), key=attrgetter("identity")), repeats


# --- Committing -------------------------------------------------------------------------------------------------------

# Batches from this size on are probed for a resend of the whole.
PROBED_EVENTS = 500
_POSITION = attrgetter("position")
_UNIQUE_VIOLATION = "23505"
_UNDEFINED_TABLE = "42P01"
# Deadlock and failed serialisation: the same again is the cure.
_TRANSIENT = frozenset({"40P01", "40001"})


def _commit_with_corrections(
    candidates: list[Candidate],
    corrections: list[Candidate],
    rejections: list[Rejection],
    origin: Origin,
    terms: _Terms,
) -> dict[int, Verdict]:
    """Corrections follow what they may name, in batches of their own."""
    others = [candidate for candidate in candidates if candidate.draft.type not in CORRECTING_TYPES]
    verdicts = _commit(others, rejections, origin, terms)
    for ready in rounds_of(corrections):
        verdicts |= _commit(ready, [], origin, terms, _store_corrections)
    return verdicts


def _commit(
    candidates: list[Candidate],
    rejections: list[Rejection],
    origin: Origin,
    terms: _Terms,
    store: "_Store | None" = None,
) -> dict[int, Verdict]:
    """Commit; returns the verdicts by position, but for the candidates that were accepted."""
    if store is None:
        store = _store_alone if _may_stand_alone(candidates, rejections, terms) else _store_new
    if store is not _store_alone:
        _confirm(terms)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return store(candidates, rejections, origin, terms)
        except DatabaseError as error:
            state = _sqlstate(error)
            if _is_unstorable(state) and candidates:
                return _commit_apart(candidates, rejections, origin, terms, error, store)
            if attempt == ATTEMPTS:
                raise
            if _is_duplicate(state, error):
                store = store if store is _store_corrections else _store_unless_known
            elif state == _UNDEFINED_TABLE:
                ensure_partitions([origin.receipt_month])
            elif state not in _TRANSIENT:
                raise
    raise AssertionError("The last attempt returns or raises.")


def _confirm(terms: _Terms) -> None:
    if terms.confirm is not None:
        terms.confirm()


def _may_stand_alone(candidates: list[Candidate], rejections: list[Rejection], terms: _Terms) -> bool:
    return len(candidates) == 1 and not rejections and not terms.backfill and not near_month_turn(terms.now)


def _store_alone(
    candidates: list[Candidate], rejections: list[Rejection], origin: Origin, terms: _Terms
) -> dict[int, Verdict]:
    """The path of a single new event, in one statement and without a transaction around it."""
    months = months_to_search(terms.now, terms.window.oldest, _tolerance())
    with transaction.atomic(durable=True) if connection.in_atomic_block else nullcontext():
        if insert_alone(candidates[0], origin, months, is_token_confirmed=terms.confirm is None):
            return {}
    _confirm(terms)
    return _store_unless_known(candidates, rejections, origin, terms)


def _store_new(
    candidates: list[Candidate], rejections: list[Rejection], origin: Origin, terms: _Terms
) -> dict[int, Verdict]:
    """The fast path: whatever earlier months do not know goes straight into this month's partition."""
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        resent = _looks_resent(cursor, candidates, terms)
        known = _look_up(cursor, candidates, terms, with_current_month=resent)
        fresh, verdicts, conflicts = _part_known(candidates, known)
        if fresh:
            copy_events(cursor, fresh, insert_batches(cursor, fresh, origin), origin.receipt_month)
        return verdicts | _keep(cursor, rejections + conflicts, origin)


def _store_unless_known(
    candidates: list[Candidate], rejections: list[Rejection], origin: Origin, terms: _Terms
) -> dict[int, Verdict]:
    """The path for requests with duplicates, also when rivals send the same events at this moment."""
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        known = _look_up(cursor, candidates, terms, with_current_month=True)
        fresh = [candidate for candidate in candidates if candidate.identity not in known]
        if fresh:
            inserted = insert_unless_known(cursor, fresh, origin)
            beaten = [candidate for candidate in fresh if candidate.identity not in inserted]
            known |= _look_up(cursor, beaten, terms, with_current_month=True)
        _, verdicts, conflicts = _part_known(candidates, known)
        return verdicts | _keep(cursor, rejections + conflicts, origin)


def _store_corrections(
    candidates: list[Candidate], rejections: list[Rejection], origin: Origin, terms: _Terms
) -> dict[int, Verdict]:
    """The path for corrections: an event that is corrected already, at this moment even, is not corrected again."""
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        by_identity = sorted(candidates, key=attrgetter("identity"))
        known = _look_up(cursor, by_identity, terms, with_current_month=True)
        fresh, verdicts, conflicts = _part_known(by_identity, known)
        effects, refused = find_effects(cursor, fresh, window=terms.window, rules=terms.rules)
        effective = sorted([effect.candidate for effect in effects], key=attrgetter("identity"))
        if effective:
            batch_ids = insert_batches(cursor, effective, origin)
            copy_events(cursor, effective, batch_ids, origin.receipt_month)
            insert_effects(cursor, effects, batch_ids, origin)
        refusals = [_rejection(candidate, refusal.reason, refusal.detail) for candidate, refusal in refused]
        return verdicts | _keep(cursor, rejections + conflicts + refusals, origin)


_Store = Callable[[list[Candidate], list[Rejection], Origin, _Terms], dict[int, Verdict]]


def _looks_resent(cursor: CursorWrapper, candidates: list[Candidate], terms: _Terms) -> bool:
    """Whether a large batch begins or ends with an event of this month: found out by COPY, it would leave dead rows."""
    if len(candidates) < PROBED_EVENTS:
        return False
    ends = {min(candidates, key=_POSITION).identity, max(candidates, key=_POSITION).identity}
    sample = [candidate for candidate in candidates if candidate.identity in ends]
    return bool(find_known(cursor, sample, [month_of(terms.now)]))


def _look_up(
    cursor: CursorWrapper, candidates: list[Candidate], terms: _Terms, *, with_current_month: bool
) -> dict[bytes, Known]:
    if not candidates:
        return {}
    if near_month_turn(terms.now):
        lock_month_turn(cursor, candidates)
    if terms.backfill:
        known = find_known(cursor, candidates, None)
        # A month may have begun to go since the terms were read; its row is there before its events are gone.
        kept_from = DroppedMonth.objects.events_kept_from()
        if kept_from is not None and kept_from > terms.window.oldest:
            raise OperationalError("A month of events is being dropped: send the same again.")
        return known
    months = months_to_search(terms.now, terms.window.oldest, _tolerance())
    return find_known(cursor, candidates, [*months, month_of(terms.now)] if with_current_month else months)


def _part_known(
    candidates: list[Candidate], known: dict[bytes, Known]
) -> tuple[list[Candidate], dict[int, Verdict], list[Rejection]]:
    """Candidates that are not known, verdicts on the duplicates, and conflicts."""
    if not known:
        return candidates, {}, []
    fresh, verdicts, conflicts = [], {}, []
    for candidate in candidates:
        stored = known.get(candidate.identity)
        if stored is None:
            fresh.append(candidate)
        elif differing := _differing(candidate, stored):
            conflicts.append(_conflict(candidate, differing))
        else:
            verdicts[candidate.position] = _duplicate(candidate)
    return fresh, verdicts, conflicts


def _keep(cursor: CursorWrapper, rejections: list[Rejection], origin: Origin) -> dict[int, Verdict]:
    if rejections:
        keep_rejections(cursor, rejections, origin)
    return {rejection.position: _refused(rejection) for rejection in rejections}


def _commit_apart(
    candidates: list[Candidate],
    rejections: list[Rejection],
    origin: Origin,
    terms: _Terms,
    error: DatabaseError,
    store: "_Store",
) -> dict[int, Verdict]:
    """PostgreSQL cannot store one of the events: halve until it is alone, so that the others are kept."""
    if len(candidates) == 1:
        detail = f"The database cannot store it: {str(error).splitlines()[0]}. Change its data and send it again."
        refused = _rejection(candidates[0], RejectionReason.INVALID_EVENT, detail)
        return _commit([], [*rejections, refused], origin, terms)
    middle = len(candidates) // 2
    verdicts = _commit(candidates[:middle], rejections, origin, terms, store)
    return verdicts | _commit(candidates[middle:], [], origin, terms, store)


def _sqlstate(error: DatabaseError) -> str:
    return getattr(error.__cause__, "sqlstate", None) or ""


def _is_duplicate(state: str, error: DatabaseError) -> bool:
    # Citus reports a worker's unique violation as an internal error.
    text = "duplicate key value violates unique constraint"
    return state == _UNIQUE_VIOLATION or (state == "XX000" and text in str(error))


def _is_unstorable(state: str) -> bool:
    """Data exceptions and limits of the program: about a value, whatever the time or the load."""
    return state[:2] in {"22", "54"}


# --- Comparing and reporting ------------------------------------------------------------------------------------------


def _as_known(candidate: Candidate) -> Known:
    draft = candidate.draft
    return Known(draft.type, draft.subject, candidate.time, candidate.time_assumed, draft.raw_data)


def _differing(candidate: Candidate, known: Known) -> list[str]:
    """Names of the members in which an event differs from what is stored. An assumed time differs from none."""
    draft = candidate.draft
    differing = [name for name in ("type", "subject") if getattr(draft, name) != getattr(known, name)]
    if candidate.time != known.time and not (candidate.time_assumed or known.time_assumed):
        differing.append("time")
    if draft.raw_data != known.data and not same(draft.data, decode_object(known.data)):
        differing.append("data")
    return differing


def _conflict(candidate: Candidate, differing: list[str]) -> Rejection:
    detail = (
        f"An event with this source and id was accepted before, with another {' and '.join(differing)}. "
        "The first stands; give new usage an id of its own."
    )
    return _rejection(candidate, RejectionReason.CONFLICT, detail)


def _rejection(candidate: Candidate, reason: RejectionReason, detail: str) -> Rejection:
    return _rejected(candidate.position, candidate.draft, candidate.organisation_id, reason, detail)


def _rejected(
    position: int, draft: Draft, organisation_id: int | None, reason: RejectionReason, detail: str
) -> Rejection:
    return Rejection(position, organisation_id, reason, detail, draft.source, draft.event_id, body_of(draft))


def _accepted(candidate: Candidate) -> Verdict:
    draft = candidate.draft
    return Verdict(draft.source, draft.event_id, "accepted", candidate.meters, None, None, candidate.time_assumed)


def _duplicate(candidate: Candidate) -> Verdict:
    draft = candidate.draft
    return Verdict(draft.source, draft.event_id, "duplicate", (), None, None, candidate.time_assumed)


def _refused(rejection: Rejection) -> Verdict:
    outcome: Outcome = "conflict" if rejection.reason == RejectionReason.CONFLICT else "rejected"
    return Verdict(rejection.source, rejection.event_id, outcome, (), str(rejection.reason), rejection.detail, False)
