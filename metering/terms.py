"""What the events of one request are judged by, looked up once: the window of times, the subjects, the meters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings

from accounts.api_keys import Subject, resolve_subjects
from metering.catalogue import Rules, rules_by_event_type
from metering.drafts import Draft, Refusal
from metering.judging import Window, window_at
from metering.models.dropped_months import DroppedMonth


@dataclass(frozen=True, slots=True)
class Terms:
    """What the events of one request are judged by."""

    now: datetime
    window: Window
    backfill: bool
    subjects: dict[str, Subject]
    assumed: Subject | None
    rules: dict[str, Rules]
    # None: the token has just been looked up, or there is none.
    confirm: Callable[[], None] | None


def terms_of(
    drafts: Sequence[Draft | Refusal],
    *,
    now: datetime,
    backfill: bool,
    assume_subject: Subject | None,
    confirm: Callable[[], None] | None,
) -> Terms:
    late_window = timedelta(days=settings.LATE_WINDOW_DAYS)
    kept_from = DroppedMonth.objects.events_kept_from() if backfill else None
    window = window_at(now, late_window=late_window, tolerance=tolerance(), backfill=backfill, kept_from=kept_from)
    named = {draft.subject for draft in drafts if type(draft) is Draft} if assume_subject is None else set()
    subjects = resolve_subjects(named) if named else {}
    return Terms(now, window, backfill, subjects, assume_subject, rules_by_event_type(), confirm)


def tolerance() -> timedelta:
    return timedelta(seconds=settings.FUTURE_TOLERANCE_SECONDS)
