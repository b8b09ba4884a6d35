"""Voids and amendments: events that name another event and take it back, or let other data count in its place.

An event is corrected once. An amendment may be corrected in turn, by naming the amendment; a void is final. What is
corrected stays as it is; the difference counts at the time, and in the series, of the event that was metered first.
Finds out what a correction does and writes it down; `metering.intake` commits it together with the event itself.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

import msgspec
from django.db.backends.utils import CursorWrapper

from metering.catalogue import Rules
from metering.drafts import Draft, make_draft
from metering.event_store import Candidate, Origin
from metering.exact_json import decode_object
from metering.identity import event_key, identity
from metering.judging import Unacceptable, Window, fed_meters
from metering.models.events import RejectionReason

VOID, AMENDMENT = "kilotoken.void", "kilotoken.amendment"
CORRECTING_TYPES = frozenset({VOID, AMENDMENT})

# The event of each name received last; what it does itself, should it be an amendment; and what corrected it.
FIND = """
SELECT e.organisation_id, e.key, e.receipt_month, e.batch_id, e.type,
       coalesce(own.type, e.type), coalesce(own.project_id, e.project_id),
       CASE WHEN own.key IS NULL THEN e.api_key_id ELSE own.api_key_id END, coalesce(own.time, e.time),
       CASE WHEN own.key IS NULL THEN e.data ELSE own.counted_instead END::text, later.source, later.event_id
FROM unnest(%s::bigint[], %s::uuid[]) AS wanted (organisation_id, key)
CROSS JOIN LATERAL (
    SELECT * FROM event WHERE organisation_id = wanted.organisation_id AND key = wanted.key
    ORDER BY receipt_month DESC LIMIT 1
) AS e
LEFT JOIN event_correction own
  ON own.organisation_id = e.organisation_id AND own.key = e.key AND own.receipt_month = e.receipt_month
LEFT JOIN LATERAL (
    SELECT named.source, named.event_id FROM event_correction c
    JOIN event named ON named.organisation_id = c.organisation_id AND named.key = c.key
                    AND named.receipt_month = c.receipt_month
    WHERE c.organisation_id = e.organisation_id AND c.original_key = e.key AND c.original_month = e.receipt_month
) AS later ON true"""

INSERT = """
INSERT INTO event_correction (organisation_id, original_key, original_month, original_batch_id, key, receipt_month,
    batch_id, type, project_id, api_key_id, time, taken_back, counted_instead)
VALUES {rows}"""
ROW = "(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s::jsonb)"

# A batch of corrections reaches as far as the times at which they count.
WIDEN = """
UPDATE ingest_batch b SET first_time = least(b.first_time, c.first), last_time = greatest(b.last_time, c.last)
FROM (SELECT organisation_id, batch_id, min(time) AS first, max(time) AS last FROM event_correction
      WHERE batch_id = ANY(%s) GROUP BY organisation_id, batch_id) AS c
WHERE b.organisation_id = c.organisation_id AND b.id = c.batch_id"""


class _Named(msgspec.Struct, frozen=True):
    source: str
    id: str


class _Instruction(msgspec.Struct, frozen=True):
    """The data of a correction."""

    corrects: _Named
    # Of an amendment: what counts instead, whole. A reason or other members are let through and kept.
    data: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Original:
    """The event that a correction names, in the terms in which it counts."""

    key: UUID
    receipt_month: date
    batch_id: int
    # As it was sent, and as it is metered: they differ if it is an amendment itself.
    own_type: str
    type: str
    project_id: int
    api_key_id: int | None
    time: datetime
    # JSON; None: it is a void.
    counting: str | None
    # Source and id of the event that corrected it; None: nothing did.
    corrected_by: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Effect:
    """A correction that can be carried out, and on what."""

    candidate: Candidate
    original: Original
    # None: a void.
    replacement: Draft | None


def rounds_of(corrections: Sequence[Candidate]) -> Iterator[list[Candidate]]:
    """Corrections of one request in their order, those that name one of the others after it."""
    waiting = sorted(corrections, key=lambda candidate: candidate.position)
    while waiting:
        names = {candidate.identity for candidate in waiting}
        ready = [candidate for candidate in waiting if _named_identity(candidate) not in names] or waiting
        yield ready
        done = {candidate.position for candidate in ready}
        waiting = [candidate for candidate in waiting if candidate.position not in done]


def find_effects(
    cursor: CursorWrapper, corrections: Iterable[Candidate], *, window: Window, rules: dict[str, Rules]
) -> tuple[list[Effect], list[tuple[Candidate, Unacceptable]]]:
    """What corrections do, and those that cannot be carried out. Of two that name one event, the first sent wins.

    Sets `meters` of each candidate to those that its original feeds or now will feed.
    """
    in_order = sorted(corrections, key=lambda candidate: candidate.position)
    originals = _find_originals(cursor, in_order)
    effects, refused = [], []
    taken: dict[bytes, Candidate] = {}
    for candidate in in_order:
        named = _named_identity(candidate)
        try:
            effect = _effect(candidate, originals.get(named), window, rules)
            if named in taken:
                draft = taken[named].draft
                raise _already_corrected(draft.source, draft.event_id)
        except Unacceptable as refusal:
            refused.append((candidate, refusal))
            continue
        taken[named] = candidate
        effects.append(effect)
    return effects, refused


def insert_effects(cursor: CursorWrapper, effects: Sequence[Effect], batch_ids: dict[int, int], origin: Origin) -> None:
    """Write down what they do, in the order of the index, so that rivals wait for each other in one direction."""
    values: list[Any] = []
    for effect in sorted(effects, key=lambda one: (one.candidate.organisation_id, one.original.key)):
        candidate, original = effect.candidate, effect.original
        batch_id = batch_ids[candidate.organisation_id]
        values += [candidate.organisation_id, original.key, original.receipt_month, original.batch_id]
        values += [UUID(bytes=candidate.key), origin.receipt_month, batch_id]
        values += [original.type, original.project_id, original.api_key_id, original.time, original.counting]
        values.append(None if effect.replacement is None else effect.replacement.raw_data.decode())
    cursor.execute(INSERT.format(rows=", ".join([ROW] * len(effects))), values)
    cursor.execute(WIDEN, [list(batch_ids.values())])


def find_original(cursor: CursorWrapper, organisation_id: int, source: str, event_id: str) -> Original | None:
    """An event in the terms in which it counts, with what corrected it."""
    cursor.execute(FIND, [[organisation_id], [UUID(bytes=event_key(source, event_id))]])
    row = cursor.fetchone()
    return None if row is None else _original(row)


def _find_originals(cursor: CursorWrapper, corrections: Sequence[Candidate]) -> dict[bytes, Original]:
    wanted = {(candidate.organisation_id, key) for candidate in corrections if (key := _named_key(candidate))}
    if not wanted:
        return {}
    cursor.execute(FIND, [[organisation_id for organisation_id, _ in wanted], [UUID(bytes=key) for _, key in wanted]])
    return {identity(row[0], row[1].bytes): _original(row) for row in cursor.fetchall()}


def _original(row: Any) -> Original:
    *facts, source, event_id = row[1:]
    facts.append(None if source is None else (source, event_id))
    return Original(*facts)


def _effect(candidate: Candidate, original: Original | None, window: Window, rules: dict[str, Rules]) -> Effect:
    instruction = _instruction(candidate.draft)
    if original is None:
        raise Unacceptable(
            RejectionReason.UNKNOWN_ORIGINAL,
            f"The organisation has no event {instruction.corrects.id!r} of {instruction.corrects.source!r}. "
            "If it arrives later, replay this correction.",
        )
    if original.counting is None:
        raise _invalid("It names a void, and a void is final. Send usage that was real as an event of its own.")
    if original.corrected_by is not None:
        raise _already_corrected(*original.corrected_by)
    if original.time < window.oldest:
        raise Unacceptable(
            RejectionReason.TOO_OLD,
            f"It corrects usage of {original.time.isoformat()}, before {window.oldest.isoformat()}, the oldest that "
            "can change now. Ask the operator for a backfill.",
        )
    of_type = rules.get(original.type, ())
    fed = dict.fromkeys(_fed_by_stored(decode_object(original.counting), original.time, of_type))
    replacement = None
    if instruction.data is not None:
        replacement = _replacement(candidate.draft, original, instruction.data)
        fed |= dict.fromkeys(fed_meters(replacement.data, original.time, of_type))
    candidate.meters = tuple(fed)
    return Effect(candidate, original, replacement)


def _replacement(draft: Draft, original: Original, data: dict[str, Any]) -> Draft:
    return make_draft(
        source=draft.source,
        event_id=draft.event_id,
        type=original.type,
        subject=draft.subject,
        time=original.time,
        data=data,
    )


def _fed_by_stored(data: dict[str, Any], time: datetime, rules: Rules) -> Iterator[str]:
    """Meters that stored data feeds; one defined later, which cannot read it, is left out."""
    for rule in rules:
        try:
            yield from fed_meters(data, time, (rule,))
        except Unacceptable:
            continue


def _instruction(draft: Draft) -> _Instruction:
    try:
        instruction = msgspec.convert(draft.data, _Instruction)
    except msgspec.ValidationError as error:
        raise _invalid(f'Its data must be {{"corrects": {{"source": …, "id": …}}}} ({error}).') from error
    if draft.type == AMENDMENT and instruction.data is None:
        raise _invalid("An amendment needs `data` within its data: what counts instead, whole.")
    if draft.type == VOID and instruction.data is not None:
        raise _invalid(f"A void has no `data` within its data: send {AMENDMENT} to let other figures count.")
    return instruction


def _named_key(candidate: Candidate) -> bytes | None:
    try:
        named = _instruction(candidate.draft).corrects
    except Unacceptable:
        return None
    return event_key(named.source, named.id)


def _named_identity(candidate: Candidate) -> bytes:
    """Empty if it names nothing that can be read."""
    key = _named_key(candidate)
    return identity(candidate.organisation_id, key) if key else b""


def _invalid(detail: str) -> Unacceptable:
    return Unacceptable(RejectionReason.INVALID_CORRECTION, detail)


def _already_corrected(source: str, event_id: str) -> Unacceptable:
    return Unacceptable(
        RejectionReason.ALREADY_CORRECTED,
        f"The event was corrected by {event_id!r} of {source!r} already. If that is an amendment, name it to correct "
        "it again.",
    )
