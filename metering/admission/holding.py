"""Holds of calls that arrive together, taken in one statement and so in one transaction.

Each call is judged after the ones before it; all counters are locked first, once each and in order.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from itertools import accumulate
from typing import Any

import msgspec
from django.db import OperationalError, connection

from accounts.api_keys import PresentedKey
from accounts.prepared import as_array, run_directly, words_of
from metering.admission.counters import Counter
from metering.admission.lookups import EVERYBODY, Terms
from metering.admission.requests import Admission, AdmissionRequest

TAKE_HOLDS = """
SELECT * FROM take_holds(
    $1::bigint[], $2::bigint[], $3::text[], $4::timestamptz[], $5::timestamptz[],
    $6::int[], $7::text[], $8::numeric[], $9::numeric[],
    $10::int[], $11::int[], $12::bigint[], $13::text[], $14::text[], $15::bigint[],
    $16::bigint[], $17::text[], $18::text[], $19::jsonb[], $20::jsonb[], $21::text[],
    $22::timestamptz[], $23::timestamptz, $24::boolean, $25::text, $26::bigint[], $27::bigint[])"""
# Tries of one statement: where a call was admitted before, or processes wait for each other in a circle.
ATTEMPTS = 3
# PostgreSQL's lock_timeout where there is none.
FOR_EVER = "0"
TRANSIENT = frozenset({"40P01", "40001"})

_encode = msgspec.json.Encoder(decimal_format="string").encode


class Call(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A call that only its counters can refuse."""

    request: AdmissionRequest
    key: PresentedKey
    terms: Terms
    # All of the answer that does not hang on counters.
    answer: Admission
    counters: Sequence[Counter]
    hold_id: str
    expires_at: datetime
    # What is asked by is remembered: the earliest transaction that may have changed it. None: it was just read.
    since: int | None = None

    @property
    def identity(self) -> tuple[int, str]:
        return self.key.organisation_id, self.request.call_id


class Outdated(Exception):
    """Something that is remembered of one of the calls was changed. Nothing was written."""


class Outcome(msgspec.Struct, frozen=True, gc=False):
    # held, full or known.
    kind: str
    # Of a call that was admitted before: its hold.
    known_id: str | None
    # Of each counter, as it was found.
    used: Sequence[Decimal]
    held: Sequence[Decimal]


def take(calls: Sequence[Call], now: datetime, *, longest_wait: str = FOR_EVER) -> list[Outcome]:
    """All is written or nothing. No two of the calls may be the same. Raises OperationalError where a counter is locked
    by somebody else for longer than is waited for, and Outdated."""
    values = _values(calls, now)
    if connection.in_atomic_block:
        return _taken(calls, values, look_first=True, longest_wait=longest_wait)
    for attempt in range(ATTEMPTS - 1):
        try:
            return _taken(calls, values, look_first=attempt > 0, longest_wait=longest_wait)
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", "") not in TRANSIENT:
                raise
    return _taken(calls, values, look_first=True, longest_wait=longest_wait)


def _taken(calls: Sequence[Call], values: Sequence[str], *, look_first: bool, longest_wait: str) -> list[Outcome]:
    values = [*values, "t" if look_first else "f", longest_wait, *_watched(calls)]
    kinds, known_ids, used, held = map(words_of, run_directly(TAKE_HOLDS, values))
    if kinds[0] == "outdated":
        raise Outdated
    found, first = [], 0
    for call, kind, known_id in zip(calls, kinds, known_ids, strict=True):
        last = first + len(call.counters)
        counted = [Decimal(text) for text in used[first:last]], [Decimal(text) for text in held[first:last]]
        found.append(Outcome(kind, None if known_id == "NULL" else known_id, *counted))
        first = last
    return found


def _values(calls: Sequence[Call], now: datetime) -> list[str]:
    """What `take_holds` takes: columns of counters, of what is asked of them, and of calls; places begin at 1."""
    ends = {(call.key.organisation_id, *one.place): one.span.end for call in calls for one in call.counters}
    places = sorted(ends)
    place_of = {place: number for number, place in enumerate(places, start=1)}
    asked = [(place_of[call.key.organisation_id, *one.place], one) for call in calls for one in call.counters]
    lasts = list(accumulate(len(call.counters) for call in calls))
    columns: list[list[Any]] = [
        *([place[column] for place in places] for column in range(4)),
        [ends[place] for place in places],
        [number for number, _ in asked],
        [one.quota.kind for _, one in asked],
        [one.wanted for _, one in asked],
        [one.quota.amount if one.quota.is_hard else None for _, one in asked],
        [last - len(call.counters) + 1 for last, call in zip(lasts, calls, strict=True)],
        lasts,
        [call.key.organisation_id for call in calls],
        [call.hold_id for call in calls],
        [call.request.call_id for call in calls],
        [call.key.api_key_id for call in calls],
        [call.key.project_id for call in calls],
        [call.request.model for call in calls],
        [call.request.end_user for call in calls],
        [_encode(call.answer.estimate).decode() for call in calls],
        [_encode(call.terms.prices).decode() for call in calls],
        [call.terms.currency for call in calls],
        [call.expires_at for call in calls],
    ]
    return [*map(as_array, columns), now.isoformat()]


def _watched(calls: Sequence[Call]) -> tuple[str, str]:
    """Of whom something is remembered, and since when."""
    since: dict[int, int] = {}
    for call in calls:
        if call.since is not None:
            for whose in (call.key.organisation_id, EVERYBODY):
                since[whose] = min(call.since, since.get(whose, call.since))
    return as_array(since), as_array(since.values())
