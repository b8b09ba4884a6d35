"""Sends usage and folds it, for tests of totals: real events through the real intake."""

import itertools
from datetime import datetime
from typing import Any

from metering.aggregation import fold_pending
from metering.drafts import Draft, make_draft
from metering.intake import Verdict, accept

_ids = itertools.count(1)


def event(
    subject: str,
    time: datetime,
    *,
    event_id: str | None = None,
    type: str = "ai.usage",
    model: str = "m-1",
    **fields: Any,
) -> Draft:
    """A call of a model at an instant, by the subject's public id."""
    data = {"model": model, **fields} if model else fields
    event_id = event_id or f"event-{next(_ids)}"
    return make_draft(event_id=event_id, source="gateway", type=type, subject=subject, time=time, data=data)


def correction(subject: str, of: str, time: datetime, *, event_id: str | None = None, data: Any = None) -> Draft:
    """A void of the gateway's event of this id, or, with data, an amendment."""
    return make_draft(
        event_id=event_id or f"event-{next(_ids)}",
        source="gateway",
        type="kilotoken.void" if data is None else "kilotoken.amendment",
        subject=subject,
        time=time,
        data={"corrects": {"source": "gateway", "id": of}} | ({} if data is None else {"data": data}),
    )


def send(*events: Draft, now: datetime, backfill: bool = True) -> list[Verdict]:
    """One batch, accepted whole."""
    verdicts = accept(list(events), format="test", service_token_id=None, now=now, backfill=backfill)
    assert {verdict.verdict for verdict in verdicts} <= {"accepted", "duplicate"}, verdicts
    return verdicts


def fold_all(now: datetime, **options: Any) -> int:
    """Fold until nothing is pending; the number of events."""
    events = 0
    while (folded := fold_pending(now=now, **options)).batches:
        events += folded.events
    return events
