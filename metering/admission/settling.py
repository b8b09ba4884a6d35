"""How holds end: settled with what was used, released, or expired; and how a running call asks for more.

Whatever comes second changes nothing. What was used counts even when it comes late: a hold that had expired or been
released is settled all the same by the event that reports its call, and what that takes beyond the limit is overdraft.
Holds are locked before counters, and counters in the order of their keys.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q, Sum

from accounts.errors import DomainError
from accounts.models import Organisation
from metering.admission.counters import ZERO, used_of
from metering.admission.requests import LONGEST, SHORTEST
from metering.exact import EXACT
from metering.models.quotas import Hold, HoldState, Quota, QuotaIncrease, QuotaWindow

MOST_EXPIRED = 500
BY_CALL = "call:"

CHANGE_COUNTERS = """
INSERT INTO quota_window AS kept (organisation_id, quota_id, subject, starts_at, ends_at, used, held)
SELECT organisation, quota, subject, start, finish, used, held
FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::numeric[], %s::numeric[])
  AS p (organisation, quota, subject, start, finish, used, held)
ORDER BY organisation, quota, subject, start
ON CONFLICT (organisation_id, quota_id, subject, starts_at)
DO UPDATE SET used = kept.used + excluded.used, held = kept.held + excluded.held"""


class HoldUnknown(DomainError):
    code = "unknown_admission"
    status = 404
    sentence = "There is no such admission. Name one by its id, or as call:<call id> with organisation=…"


class HoldEnded(DomainError):
    code = "admission_ended"
    status = 409
    sentence = "This admission has ended, so it cannot be extended. Ask for a new one."


class NoRoom(DomainError):
    code = "limit_reached"
    status = 402
    sentence = "A limit leaves no room for more."


# Organisation, quota, subject, start of the window.
type Place = tuple[int, int, str, datetime]


@dataclass(slots=True)
class Change:
    """What is added to a counter."""

    used: Decimal = ZERO
    held: Decimal = ZERO
    # Where the window ends, if the counter has to be made.
    ends_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """One hold and what it becomes. `usage` only where it is settled."""

    hold: Hold
    state: HoldState
    usage: Mapping[str, Decimal] | None = None
    event_key: UUID | None = None


def find_hold(name: str, *, organisation: str = "") -> Hold:
    """By its id, or as `call:<call id>` within an organisation, named by public id or slug. Raises HoldUnknown."""
    if not name.startswith(BY_CALL):
        rows = Hold.objects.filter(id=name)
    else:
        owners = Organisation.objects.named(organisation)
        rows = Hold.objects.filter(organisation__in=owners, call_id=name.removeprefix(BY_CALL))
    hold = rows.first()
    if hold is None:
        raise HoldUnknown
    return hold


def settle(hold: Hold, usage: Mapping[str, Decimal], *, now: datetime) -> Hold:
    """Count what was used instead of what was held. A hold that is settled or released already stays as it is."""
    return _end_one(hold, HoldState.SETTLED, now, usage)


def release(hold: Hold, *, now: datetime) -> Hold:
    """Give back what was held: the call did not happen. A hold that has ended already stays as it is."""
    return _end_one(hold, HoldState.RELEASED, now)


def expire_holds(now: datetime, *, limit: int = MOST_EXPIRED) -> int:
    """Give back what holds past their time hold; answers how many. They count as leaked until their call is told."""
    with transaction.atomic():
        due = Hold.objects.select_for_update(skip_locked=True).filter(state=HoldState.HELD, expires_at__lte=now)
        holds = list(due.order_by("organisation_id", "id")[:limit])
        end([Ending(hold, HoldState.EXPIRED) for hold in holds], now)
    return len(holds)


def extend(hold: Hold, more: Mapping[str, Decimal], *, time_to_live: timedelta | None = None, now: datetime) -> Hold:
    """Hold more for a call that runs longer than it was thought. Raises HoldEnded, or NoRoom and holds as before."""
    with transaction.atomic():
        locked = _locked(hold)
        if locked.state != HoldState.HELD:
            raise HoldEnded
        prices = _decimals(locked.prices)
        wanted = [_running_share(kind, more, prices) for kind in locked.measures]
        _require_room(locked, wanted, now)
        changes = _changes(locked, [ZERO] * len(wanted), wanted)
        change_counters(changes)
        locked.amounts = [EXACT.add(had, new) for had, new in zip(locked.amounts, wanted, strict=True)]
        estimate = _decimals(locked.estimate)
        locked.estimate = {
            meter: str(EXACT.add(estimate.get(meter, ZERO), more.get(meter, ZERO))) for meter in {**estimate, **more}
        }
        if time_to_live is not None:
            locked.expires_at = max(locked.expires_at, now + min(max(time_to_live, SHORTEST), LONGEST))
        Hold.objects.filter(organisation_id=locked.organisation_id, id=locked.id).update(
            amounts=locked.amounts, estimate=locked.estimate, expires_at=locked.expires_at
        )
    return locked


def end(endings: Sequence[Ending], now: datetime, *, more: Mapping[Place, Change] | None = None) -> None:
    """End holds that the caller has locked, in a transaction of the caller's, with what `more` adds to counters.

    The only place where a hold changes its state.
    """
    changes: dict[Place, Change] = defaultdict(Change, more or {})
    for ending in endings:
        for place, change in _changes_of(ending).items():
            changes[place].used = EXACT.add(changes[place].used, change.used)
            changes[place].held = EXACT.add(changes[place].held, change.held)
    change_counters(changes)
    _write(endings, now)


def change_counters(changes: Mapping[Place, Change]) -> None:
    """Add to counters, in the order of their keys; those that are missing are made."""
    places = sorted(place for place, change in changes.items() if change.used or change.held)
    if not places:
        return
    columns: list[list[Any]] = [list(column) for column in zip(*places, strict=True)]
    rest = [changes[place] for place in places]
    values: list[list[Any]] = [[one.ends_at for one in rest], [one.used for one in rest], [one.held for one in rest]]
    with connection.cursor() as cursor:
        cursor.execute(CHANGE_COUNTERS, [*columns, *values])


def _end_one(hold: Hold, state: HoldState, now: datetime, usage: Mapping[str, Decimal] | None = None) -> Hold:
    with transaction.atomic():
        locked = _locked(hold)
        may_end = {HoldState.HELD, HoldState.EXPIRED} if state == HoldState.SETTLED else {HoldState.HELD}
        if locked.state in may_end:
            end([Ending(locked, state, usage)], now)
            locked.refresh_from_db()
    return locked


def _locked(hold: Hold) -> Hold:
    return Hold.objects.select_for_update().get(organisation_id=hold.organisation_id, id=hold.id)


def _changes_of(ending: Ending) -> dict[Place, Change]:
    hold = ending.hold
    given_back = hold.amounts if hold.state == HoldState.HELD else [ZERO] * len(hold.amounts)
    held = [-amount for amount in given_back]
    if ending.usage is None:
        return _changes(hold, [ZERO] * len(held), held)
    prices = _decimals(hold.prices)
    used = [used_of(kind, ending.usage, prices) for kind in hold.measures]
    return _changes(hold, used, held)


def _changes(hold: Hold, used: Iterable[Decimal], held: Iterable[Decimal]) -> dict[Place, Change]:
    counters = zip(hold.quota_ids, hold.subjects, hold.window_starts, used, held, strict=True)
    return {
        (hold.organisation_id, quota, subject, start): Change(more_used, more_held)
        for quota, subject, start, more_used, more_held in counters
    }


def _write(endings: Sequence[Ending], now: datetime) -> None:
    for ending in endings:
        hold = ending.hold
        hold.was_late = hold.was_late or (ending.usage is not None and hold.state != HoldState.HELD)
        if hold.state != ending.state:
            hold.state, hold.ended_at = ending.state, now
        if ending.usage is not None:
            hold.usage = {meter: str(units) for meter, units in ending.usage.items()}
        hold.event_key = ending.event_key or hold.event_key
    Hold.objects.bulk_update(
        [ending.hold for ending in endings], ["state", "ended_at", "usage", "was_late", "event_key"], batch_size=500
    )


def _running_share(kind: str, more: Mapping[str, Decimal], prices: Mapping[str, Decimal]) -> Decimal:
    """A call that goes on is still one request and one of those that run."""
    return ZERO if kind in {"requests", "concurrent"} else used_of(kind, more, prices)


def _require_room(hold: Hold, wanted: Sequence[Decimal], now: datetime) -> None:
    """Locks the counters. Quotas that were archived or only warn have room for anything."""
    bounds = _bounds(hold.quota_ids, now)
    rows = QuotaWindow.objects.select_for_update().filter(
        organisation_id=hold.organisation_id, quota_id__in=hold.quota_ids
    )
    touched = set(zip(hold.quota_ids, hold.subjects, hold.window_starts, strict=True))
    mine = Q()
    for quota, subject, start in touched:
        mine |= Q(quota_id=quota, subject=subject, starts_at=start)
    states = {
        (row.quota_id, row.subject, row.starts_at): EXACT.add(row.used, row.held)
        for row in (rows.filter(mine) if touched else rows.none()).order_by("quota_id", "subject", "starts_at")
    }
    for quota, subject, start, more in zip(hold.quota_ids, hold.subjects, hold.window_starts, wanted, strict=True):
        if more > 0 and quota in bounds and states.get((quota, subject, start), ZERO) + more > bounds[quota]:
            raise NoRoom


def _bounds(quota_ids: Sequence[int], now: datetime) -> dict[int, Decimal]:
    """Amounts of the hard quotas in force among these, with what was added for now."""
    quotas = Quota.objects.active().filter(pk__in=quota_ids, enforcement="hard")
    more = dict(
        QuotaIncrease.objects.filter(quota_id__in=quota_ids, starts_at__lte=now, ends_at__gt=now)
        .values_list("quota_id")
        .annotate(total=Sum("amount"))
        .order_by()
    )
    return {quota.pk: EXACT.add(quota.amount, more.get(quota.pk, ZERO)) for quota in quotas}


def _decimals(values: Mapping[str, str]) -> dict[str, Decimal]:
    return {name: Decimal(value) for name, value in values.items()}
