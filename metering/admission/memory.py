"""What was looked up for earlier calls, for the next ones.

It lets nothing through by itself: `take_holds`, which any call needs, is told since when it is remembered and does
nothing if something was changed. Triggers note every change of what a look-up reads (`admission_change`), with the
number of the transaction. Whatever was committed by a transaction that the look-up may not have seen counts as changed,
in whichever order they end. Nobody is refused by what is remembered: then it is looked up anew.
"""

import time
from collections.abc import Iterable, Sequence
from datetime import datetime

from django.db import connection

from metering.admission.lookups import Found, Question, look_up

# Far less than changes are kept for (`metering.pruning`).
REMEMBERED_SECONDS = 60.0
REMEMBERED_QUESTIONS = 10_000
# When each was looked up, by the clock that never goes back.
_remembered: dict[Question, tuple[float, Found]] = {}


def recall(questions: Iterable[Question], now: datetime) -> dict[Question, Found]:
    """What is known of some of them, to be confirmed."""
    earliest = time.monotonic() - REMEMBERED_SECONDS
    recalled = {}
    for question in questions:
        looked_up_at, found = _remembered.get(question, _NOTHING)
        if found is not None and looked_up_at > earliest and found.holds_good(now):
            recalled[question] = found
    return recalled


_NOTHING: tuple[float, None] = (float("-inf"), None)


def find(questions: Sequence[Question], now: datetime) -> dict[Question, Found]:
    """Look them up now, and remember what may pass, unless the look-up may have seen what is never committed."""
    if not questions:
        return {}
    looked_up_at = time.monotonic()
    found = dict(zip(questions, look_up(questions, now), strict=True))
    if not connection.in_atomic_block:
        if len(_remembered) + len(found) > REMEMBERED_QUESTIONS:
            _remembered.clear()
        _remembered.update((question, (looked_up_at, one)) for question, one in found.items() if _is_of_use(one))
    return found


def _is_of_use(found: Found) -> bool:
    return found.is_token_live and found.key is not None and found.since is not None
