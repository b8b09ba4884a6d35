"""Seals: the Merkle root over each organisation's events of each day of receipt, chained to the day before.

A sealed day never changes. The events of day D are those of the batches whose `received_at`, intake's clock read before
it commits, lies on D in UTC, so a late event belongs to the day it came in. What keeps a slow transaction from adding
to D afterwards is a lock, not a delay: the database takes a shared lock on (organisation, day) for every batch and
refuses it when that day or a later one is sealed (trigger `batch_of_open_day`); sealing takes the same lock for itself
alone before it reads, which waits for all that had got theirs. A refused sender is told to send again and gets a new
time of receipt. The margin only keeps sealing from waiting in vain.

Leaves stand in the order of the events' keys, so that the order of receipt and the division into batches do not
matter. Checks nothing (see `metering.seal_checks`) and proves nothing (see `metering.proofs`).
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import batched

from django.db import OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper

from accounts.errors import DomainError
from accounts.models import Organisation
from metering.canonical import NO_PREVIOUS, seal_digest
from metering.leaves import TILE_LEAVES, bounds_of, stream_leaves
from metering.merkle import tree_root
from metering.models import IngestBatch, Seal, SealTile

# A request of the old day's last second has long committed by then.
MARGIN = timedelta(minutes=15)
# Days of one organisation that a straggler may still be writing to: no transaction lives longer.
LOCKED_DAYS = 7
_TILES_AT_ONCE = 200


class EventsMissing(DomainError):
    code = "events_missing"


@dataclass(frozen=True, slots=True)
class Sealed:
    """What one call did. `more`: there are further days to seal, so call again."""

    seals: tuple[Seal, ...]
    # Organisations whose next day could not be sealed, with the reason.
    failures: tuple[str, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class _Due:
    organisation_id: int
    public_id: str
    day: date


def seal_days(*, now: datetime, limit: int = 200) -> Sealed:
    """Seal finished days, each in a transaction of its own and each organisation's in order, at most `limit`.

    Any number of workers may do this at once; a day that another is sealing is left to it. A day whose events and
    batches disagree stays unsealed, and so do the organisation's later ones, until somebody has looked.
    """
    seals: list[Seal] = []
    failures: dict[int, str] = {}
    busy: set[int] = set()
    while len(seals) < limit:
        found = due_days(last_finished_day(now), limit=limit - len(seals), skip=failures.keys() | busy)
        if not found:
            return Sealed(tuple(seals), tuple(failures.values()), more=False)
        for due in found:
            try:
                seal = _seal_day(due, now)
            except (EventsMissing, OperationalError) as error:
                failures[due.organisation_id] = f"{due.public_id} {due.day}: {error}"
                continue
            if seal is None:
                busy.add(due.organisation_id)
            else:
                seals.append(seal)
    return Sealed(tuple(seals), tuple(failures.values()), more=True)


def last_finished_day(now: datetime) -> date:
    """The latest day of receipt that may be sealed."""
    return (now - MARGIN).astimezone(UTC).date() - timedelta(days=1)


# --- What is due ------------------------------------------------------------------------------------------------------

# Nothing can come in on or before a sealed day, so an organisation's next batch after it says which day is next.
_DUE = """
SELECT o.id, o.public_id, (next.received_at AT TIME ZONE 'UTC')::date
FROM accounts_organisation o
LEFT JOIN LATERAL (
    SELECT day FROM metering_seal WHERE organisation_id = o.id ORDER BY day DESC LIMIT 1
) AS sealed ON true
CROSS JOIN LATERAL (
    SELECT received_at FROM ingest_batch
    WHERE organisation_id = o.id AND received_at < %s
      AND received_at >= coalesce((sealed.day + 1)::timestamp AT TIME ZONE 'UTC', '-infinity')
    ORDER BY received_at LIMIT 1
) AS next
WHERE o.id <> ALL(%s::bigint[]) ORDER BY o.id LIMIT %s"""


def due_days(last: date, *, limit: int, skip: Collection[int] = ()) -> list[_Due]:
    """The next unsealed day of every organisation that has one up to `last`."""
    with connection.cursor() as cursor:
        cursor.execute(_DUE, [bounds_of(last)[1], sorted(skip), limit])
        return [_Due(*row) for row in cursor.fetchall()]


# --- Sealing a day ----------------------------------------------------------------------------------------------------

_TRY_LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended('sealing/' || %s::bigint, 0))"
# The key of the lock is spelled the same way in the trigger.
_LOCK_DAYS = """
SET LOCAL lock_timeout = '10s';
SELECT pg_advisory_xact_lock(hashtextextended('batch/' || %s::bigint || '/' || day, 0))
FROM generate_series(0, %s) AS step, LATERAL (SELECT (%s::date - step)::date AS day) AS days;
SET LOCAL lock_timeout = DEFAULT;
SET LOCAL work_mem = '64MB'"""
_COUNTED = """
SELECT coalesce(sum(event_count), 0) FROM ingest_batch
WHERE organisation_id = %s AND received_at >= %s AND received_at < %s"""


def _seal_day(due: _Due, now: datetime) -> Seal | None:
    """Seal one day; None if another worker is at it, or was."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_TRY_LOCK, [due.organisation_id])
        if not cursor.fetchone()[0]:
            return None
        previous = Seal.objects.filter(organisation_id=due.organisation_id).order_by("-day").first()
        if previous is not None and previous.day >= due.day:
            return None
        gap = LOCKED_DAYS if previous is None else (due.day - previous.day).days
        cursor.execute(_LOCK_DAYS, [due.organisation_id, min(gap, LOCKED_DAYS) - 1, due.day])
        tiles, count = _draw_tiles(due)
        _require_all(cursor, due, count)
        return _write(due, tiles, count, NO_PREVIOUS if previous is None else previous.digest, now)


def _draw_tiles(due: _Due) -> tuple[list[SealTile], int]:
    """The day's tiles, without their seal, and the number of leaves."""
    tiles: list[SealTile] = []
    count = 0
    for position, leaves in enumerate(batched(stream_leaves(due.organisation_id, due.day), TILE_LEAVES)):
        tiles.append(
            SealTile(
                position=position,
                first_key=leaves[0].key,
                root=tree_root([leaf.hash for leaf in leaves]),
                hints=b"".join([leaf.hint for leaf in leaves]),
            )
        )
        count += len(leaves)
    return tiles, count


def _require_all(cursor: CursorWrapper, due: _Due, count: int) -> None:
    cursor.execute(_COUNTED, [due.organisation_id, *bounds_of(due.day)])
    counted = int(cursor.fetchone()[0])
    if counted != count:
        raise EventsMissing(f"The batches of {due.day} hold {counted} events, and {count} are there.")


def _write(due: _Due, tiles: list[SealTile], count: int, previous_digest: str, now: datetime) -> Seal:
    root = tree_root([bytes(tile.root) for tile in tiles]).hex()
    seal = Seal.objects.create(
        organisation_id=due.organisation_id,
        day=due.day,
        event_count=count,
        root=root,
        previous_digest=previous_digest,
        digest=seal_digest(due.public_id, due.day, count, root, previous_digest),
        sealed_at=now,
    )
    for tile in tiles:
        tile.seal = seal
    SealTile.objects.bulk_create(tiles, batch_size=_TILES_AT_ONCE)
    return seal


def newest_seal(organisation: Organisation) -> Seal | None:
    """The head of the chain; None before the first."""
    return newest_seals([organisation]).get(organisation.pk)


def newest_seals(organisations: Iterable[Organisation]) -> dict[int, Seal]:
    """The heads of several chains, by the organisation's primary key."""
    heads = Seal.objects.filter(organisation__in=organisations).order_by("organisation_id", "-day")
    return {seal.organisation_id: seal for seal in heads.distinct("organisation_id")}


def sealed_through(organisation: Organisation, now: datetime) -> date:
    """The last day of receipt of which nothing more can come: sealed, or finished without an event."""
    batches = IngestBatch.objects.filter(organisation=organisation)
    newest = newest_seal(organisation)
    if newest is not None:
        batches = batches.filter(received_at__gte=bounds_of(newest.day)[1])
    waiting = batches.order_by("received_at").values_list("received_at", flat=True).first()
    finished = last_finished_day(now)
    return finished if waiting is None else min(finished, waiting.astimezone(UTC).date() - timedelta(days=1))
