"""How judged events are committed: which of the ways to store them is taken, and another where that one fails.

Small requests of the same moment share a statement, a batch of new events goes straight into its month, and only where
an identity turns out to be known is it looked at one by one. Every way ends with a commit before anybody is told.
"""

from collections.abc import Callable
from datetime import date
from operator import attrgetter

from django.db import DatabaseError, OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper

from metering.correcting import find_effects, insert_effects
from metering.event_store import (
    Candidate,
    Known,
    Origin,
    Search,
    copy_events,
    find_known,
    insert_batches,
    insert_unless_known,
    lock_month_turn,
    months_to_search,
    near_month_turn,
    open_batches,
)
from metering.group_commit import SmallRequest, insert_together
from metering.models.dropped_months import DroppedMonth
from metering.models.events import RejectionReason
from metering.partitions import ensure_partitions, month_of, months_kept
from metering.rejections import Rejection, keep_rejections
from metering.terms import Terms, tolerance
from metering.verdicts import Verdict, conflict_of, differences, duplicate, refused, rejection_of

# Tries of one transaction against deadlocks and the like; one retry is the rule, more mean that something is wrong.
ATTEMPTS = 4
# Requests up to this size are stored together; for larger ones COPY is cheaper.
SMALL_EVENTS = 20
# Batches from this size on are probed for a resend of the whole.
PROBED_EVENTS = 500
_UNIQUE_VIOLATION = "23505"
_UNDEFINED_TABLE = "42P01"
# Deadlock and failed serialisation: the same again is the cure.
_TRANSIENT = frozenset({"40P01", "40001"})


def commit(
    candidates: list[Candidate],
    rejections: list[Rejection],
    origin: Origin,
    terms: Terms,
    store: "_Store | None" = None,
) -> dict[int, Verdict]:
    """Commit; returns the verdicts by position, but for the candidates that were accepted."""
    if store is None:
        store = _store_together if _is_small(candidates, rejections, terms) else _store_new
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
                store = store if store is store_corrections else _store_unless_known
            elif state == _UNDEFINED_TABLE:
                ensure_partitions([origin.receipt_month])
            elif state not in _TRANSIENT:
                raise
    raise AssertionError("The last attempt returns or raises.")


def _confirm(terms: Terms) -> None:
    if terms.confirm is not None:
        terms.confirm()


def _is_small(candidates: list[Candidate], rejections: list[Rejection], terms: Terms) -> bool:
    is_ordinary = not (rejections or terms.backfill or near_month_turn(terms.now))
    return is_ordinary and 1 <= len(candidates) <= SMALL_EVENTS


def _store_together(
    candidates: list[Candidate], rejections: list[Rejection], origin: Origin, terms: Terms
) -> dict[int, Verdict]:
    """The path of a few new events, in one statement with the requests of the same moment."""
    months = _earlier_months(terms)
    left = insert_together(SmallRequest(candidates, origin, months, is_token_confirmed=terms.confirm is None))
    if not left:
        return {}
    return _store_unless_known(left, rejections, origin, terms)


def _store_new(
    candidates: list[Candidate], rejections: list[Rejection], origin: Origin, terms: Terms
) -> dict[int, Verdict]:
    """The fast path: what nobody knows goes straight into this month's partition."""
    if not candidates:
        _confirm(terms)
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        if not candidates or _copied(cursor, candidates, origin, terms):
            return _keep(cursor, rejections, origin)
    return _store_unless_known(candidates, rejections, origin, terms)


def _copied(cursor: CursorWrapper, candidates: list[Candidate], origin: Origin, terms: Terms) -> bool:
    """COPY the candidates with their batch rows; False if nothing was written: one of them is known, or the token is no
    longer live."""
    _take_turns(cursor, candidates, terms)
    search = Search(_earlier_months(terms), _ends(candidates))
    batch_ids = open_batches(candidates, origin, search, is_token_confirmed=terms.confirm is None)
    _refuse_while_dropping(terms)
    if batch_ids:
        copy_events(cursor, candidates, batch_ids, origin.receipt_month)
    return bool(batch_ids)


def _store_unless_known(
    candidates: list[Candidate], rejections: list[Rejection], origin: Origin, terms: Terms
) -> dict[int, Verdict]:
    """The path for requests with duplicates, also when rivals send the same events at this moment."""
    _confirm(terms)
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        known = _look_up(cursor, candidates, terms)
        fresh = [candidate for candidate in candidates if candidate.identity not in known]
        if fresh:
            inserted = insert_unless_known(cursor, fresh, origin)
            beaten = [candidate for candidate in fresh if candidate.identity not in inserted]
            known |= _look_up(cursor, beaten, terms)
        _, verdicts, conflicts = _part_known(candidates, known)
        return verdicts | _keep(cursor, rejections + conflicts, origin)


def store_corrections(
    candidates: list[Candidate], rejections: list[Rejection], origin: Origin, terms: Terms
) -> dict[int, Verdict]:
    """The path for corrections: an event that is corrected already, at this moment even, is not corrected again."""
    _confirm(terms)
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        by_identity = sorted(candidates, key=attrgetter("identity"))
        known = _look_up(cursor, by_identity, terms)
        fresh, verdicts, conflicts = _part_known(by_identity, known)
        effects, turned_down = find_effects(cursor, fresh, window=terms.window, rules=terms.rules)
        effective = sorted([effect.candidate for effect in effects], key=attrgetter("identity"))
        if effective:
            batch_ids = insert_batches(cursor, effective, origin)
            copy_events(cursor, effective, batch_ids, origin.receipt_month)
            insert_effects(cursor, effects, batch_ids, origin)
        refusals = [rejection_of(candidate, refusal.reason, refusal.detail) for candidate, refusal in turned_down]
        return verdicts | _keep(cursor, rejections + conflicts + refusals, origin)


_Store = Callable[[list[Candidate], list[Rejection], Origin, Terms], dict[int, Verdict]]


def _ends(candidates: list[Candidate]) -> frozenset[bytes]:
    """The keys of a large batch's first and last event: COPY would find out late that it was sent before."""
    return frozenset({candidates[0].key, candidates[-1].key} if len(candidates) >= PROBED_EVENTS else ())


def _look_up(cursor: CursorWrapper, candidates: list[Candidate], terms: Terms) -> dict[bytes, Known]:
    if not candidates:
        return {}
    _take_turns(cursor, candidates, terms)
    known = find_known(cursor, candidates, None if terms.backfill else [*_earlier_months(terms), month_of(terms.now)])
    _refuse_while_dropping(terms)
    return known


def _take_turns(cursor: CursorWrapper, candidates: list[Candidate], terms: Terms) -> None:
    if near_month_turn(terms.now):
        lock_month_turn(cursor, candidates)


def _earlier_months(terms: Terms) -> list[date]:
    """The months, but the current one, in which candidates may have been received; of a backfill, all that are kept."""
    if terms.backfill:
        return [month for month in months_kept() if month != month_of(terms.now)]
    return months_to_search(terms.now, terms.window.oldest, tolerance())


def _refuse_while_dropping(terms: Terms) -> None:
    """A month may have begun to go since a backfill's terms were read; its row is there before its events are gone."""
    if terms.backfill:
        kept_from = DroppedMonth.objects.events_kept_from()
        if kept_from is not None and kept_from > terms.window.oldest:
            raise OperationalError("A month of events is being dropped: send the same again.")


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
        elif differing := differences(candidate, stored):
            conflicts.append(conflict_of(candidate, differing))
        else:
            verdicts[candidate.position] = duplicate(candidate)
    return fresh, verdicts, conflicts


def _keep(cursor: CursorWrapper, rejections: list[Rejection], origin: Origin) -> dict[int, Verdict]:
    if rejections:
        keep_rejections(cursor, rejections, origin)
    return {rejection.position: refused(rejection) for rejection in rejections}


def _commit_apart(
    candidates: list[Candidate],
    rejections: list[Rejection],
    origin: Origin,
    terms: Terms,
    error: DatabaseError,
    store: "_Store",
) -> dict[int, Verdict]:
    """PostgreSQL cannot store one of the events: halve until it is alone, so that the others are kept."""
    if len(candidates) == 1:
        detail = f"The database cannot store it: {str(error).splitlines()[0]}. Change its data and send it again."
        unstorable = rejection_of(candidates[0], RejectionReason.INVALID_EVENT, detail)
        return commit([], [*rejections, unstorable], origin, terms)
    middle = len(candidates) // 2
    verdicts = commit(candidates[:middle], rejections, origin, terms, store)
    return verdicts | commit(candidates[middle:], [], origin, terms, store)


def _sqlstate(error: DatabaseError) -> str:
    return getattr(error.__cause__, "sqlstate", None) or ""


def _is_duplicate(state: str, error: DatabaseError) -> bool:
    # Citus reports a worker's unique violation as an internal error.
    text = "duplicate key value violates unique constraint"
    return state == _UNIQUE_VIOLATION or (state == "XX000" and text in str(error))


def _is_unstorable(state: str) -> bool:
    """Data exceptions and limits of the program: about a value, whatever the time or the load."""
    return state[:2] in {"22", "54"}
