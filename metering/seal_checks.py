"""Do events and seals agree? Recomputes everything and reports every difference, naming the day and the event.

The chain alone does not notice that its newest seals were taken away: the batches of the days without seal do, and so
does a head, a digest that somebody noted elsewhere. Months whose events were dropped by policy are left out and said
to be. Changes nothing.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import batched
from typing import Any

from django.db import connection, transaction

from accounts.models import Organisation
from metering.canonical import NO_PREVIOUS, seal_digest
from metering.leaves import HINT_BYTES, KEY_HINT_BYTES, TILE_LEAVES, Leaf, bounds_of, stream_leaves
from metering.merkle import tree_root
from metering.models import DroppedMonth, Seal, SealTile
from metering.partitions import month_of, partition_name
from metering.sealing import last_finished_day

# Sealing runs soon after midnight; a day without a seal is a finding when it had this long for it.
EXPECTED_WITHIN = timedelta(hours=6)
# Events named per day; a day that was changed throughout is one finding of many.
MOST_NAMED = 50


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    code: str
    # None: not about one day.
    day: date | None
    detail: str
    # Of the event, where it can be told which one it is.
    source: str = ""
    event_id: str = ""


@dataclass(slots=True)
class Checked:
    """What was looked at, and what was found."""

    seals: int = 0
    days: int = 0
    events: int = 0
    # Days whose events are no longer kept, so that only their seals could be checked.
    days_dropped: int = 0
    head: str = ""
    findings: list[Finding] = field(default_factory=list)


def check_seals(
    organisation: Organisation,
    *,
    now: datetime,
    first: date | None = None,
    last: date | None = None,
    heads: Collection[str] = (),
) -> Checked:
    """Check the whole chain, and the events of the sealed days from `first` to `last`, both included; None: all.

    `heads` are digests that somebody noted earlier.
    """
    seals = list(Seal.objects.for_organisation(organisation).order_by("day"))
    checked = Checked(seals=len(seals), head=seals[-1].digest if seals else "")
    checked.findings += verify_chain(organisation, seals, heads=heads)
    checked.findings += _unsealed(organisation, seals, now)
    checked.findings += _without_batch(organisation)
    for seal in seals:
        if (first is None or seal.day >= first) and (last is None or seal.day <= last):
            _check_day(seal, checked)
    return checked


def verify_chain(organisation: Organisation, seals: Sequence[Seal], *, heads: Collection[str] = ()) -> list[Finding]:
    """Whether each seal follows from its figures and from the one before it; `heads` must be among their digests."""
    findings, previous = [], NO_PREVIOUS
    for seal in seals:
        if seal.previous_digest != previous:
            findings.append(Finding("chain_broken", seal.day, "The seal does not continue the one before it."))
        expected = seal_digest(organisation.public_id, seal.day, seal.event_count, seal.root, seal.previous_digest)
        if seal.digest != expected:
            findings.append(Finding("digest_wrong", seal.day, "The seal's digest does not follow from its figures."))
        previous = seal.digest
    for head in sorted(set(heads) - {seal.digest for seal in seals}):
        findings.append(Finding("head_missing", None, f"No seal has the digest {head}: seals were taken away."))
    return findings


# --- Days without seal, events without batch --------------------------------------------------------------------------

_DAYS = """
SELECT (received_at AT TIME ZONE 'UTC')::date AS day, sum(event_count) FROM ingest_batch
WHERE organisation_id = %s AND received_at < %s GROUP BY day ORDER BY day"""
_ORPHANS = """
SELECT e.source, e.event_id FROM event e
WHERE e.organisation_id = %s AND NOT EXISTS (
    SELECT FROM ingest_batch b
    WHERE b.organisation_id = e.organisation_id AND b.id = e.batch_id AND b.receipt_month = e.receipt_month)
LIMIT %s"""


def _unsealed(organisation: Organisation, seals: Sequence[Seal], now: datetime) -> Iterator[Finding]:
    end = bounds_of(last_finished_day(now - EXPECTED_WITHIN))[1]
    sealed = {seal.day for seal in seals}
    for day, count in _fetch(_DAYS, organisation.pk, end):
        if day not in sealed:
            yield Finding("seal_missing", day, f"{count} events were received and there is no seal.")


def _without_batch(organisation: Organisation) -> Iterator[Finding]:
    for source, event_id in _fetch(_ORPHANS, organisation.pk, MOST_NAMED):
        yield Finding("no_batch", None, "The event belongs to no batch: it did not come in.", source, event_id)


# --- The events of one day --------------------------------------------------------------------------------------------


def _check_day(seal: Seal, checked: Checked) -> None:
    if not are_kept(seal.day):
        checked.days_dropped += 1
        return
    with transaction.atomic():
        roots, count = [], 0
        for leaves in batched(stream_leaves(seal.organisation_id, seal.day), TILE_LEAVES):
            roots.append(tree_root([leaf.hash for leaf in leaves]))
            count += len(leaves)
        checked.days += 1
        checked.events += count
        if count == seal.event_count and tree_root(roots).hex() == seal.root:
            return
        named = list(_changes(seal))
    sentence = f"{seal.event_count} events are sealed and {count} are there; their root is not the sealed one."
    checked.findings.append(Finding("root_wrong", seal.day, sentence))
    checked.findings += named[:MOST_NAMED]


def are_kept(day: date) -> bool:
    """Whether the events received on a day are still there: the partition of its month, not about to be dropped."""
    month = month_of(bounds_of(day)[0])
    if DroppedMonth.objects.filter(month=month).exists():
        return False
    name = partition_name(month)
    return bool(
        _fetch("SELECT FROM pg_inherits WHERE inhparent = 'event'::regclass AND inhrelid = to_regclass(%s)", name)
    )


def _changes(seal: Seal) -> Iterator[Finding]:
    """Which events of a day are not as they were sealed, as far as the hints tell."""
    tiles = list(SealTile.objects.filter(seal=seal).order_by("position"))
    if not tiles:
        yield Finding("tiles_missing", seal.day, "The seal's tiles are gone, so it cannot be told which event it is.")
        return
    at = 0
    held: list[Leaf] = []
    for leaf in stream_leaves(seal.organisation_id, seal.day):
        while at + 1 < len(tiles) and leaf.key >= tiles[at + 1].first_key:
            yield from _changes_in_tile(seal, tiles[at], held)
            at, held = at + 1, []
        held.append(leaf)
    yield from _changes_in_tile(seal, tiles[at], held)
    for tile in tiles[at + 1 :]:
        yield from _changes_in_tile(seal, tile, [])


def _changes_in_tile(seal: Seal, tile: SealTile, leaves: list[Leaf]) -> Iterator[Finding]:
    if tree_root([leaf.hash for leaf in leaves]) == bytes(tile.root):
        return
    sealed = _hints_of(tile)
    is_explained = False
    for leaf in leaves:
        key_hint, hash_hint = leaf.hint[:KEY_HINT_BYTES], leaf.hint[KEY_HINT_BYTES:]
        known = sealed.pop(key_hint, None)
        if known != hash_hint:
            is_explained = True
            code, what = ("event_added", "added after") if known is None else ("event_changed", "changed after")
            yield Finding(code, seal.day, f"The event was {what} its day was sealed.", leaf.source, leaf.event_id)
    for key_hint in sealed:
        is_explained = True
        yield Finding("event_gone", seal.day, f"An event whose key ends with {key_hint.hex()} is no longer there.")
    if not is_explained:
        place = f"{tile.position * TILE_LEAVES + 1} to {tile.position * TILE_LEAVES + len(leaves)}"
        yield Finding("event_changed", seal.day, f"One of the events {place} of the day, by key, was changed.")


def _hints_of(tile: SealTile) -> dict[bytes, bytes]:
    hints = bytes(tile.hints)
    parts = (hints[at : at + HINT_BYTES] for at in range(0, len(hints), HINT_BYTES))
    return {part[:KEY_HINT_BYTES]: part[KEY_HINT_BYTES:] for part in parts}


def _fetch(statement: str, *params: Any) -> Sequence[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall()
