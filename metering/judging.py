"""May an event be accepted, and which meters does it feed? Looks nothing up: subjects and meters are handed in.

Unknown is not zero: a metered member that is absent or null leaves its meter unfed, while a value that is no finite
number refuses the event.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from metering.catalogue import Rule, Rules, Special
from metering.drafts import Draft
from metering.members import read_member, readable_number
from metering.models.events import RejectionReason

# Values are numeric(42,18) at most: below 10^24 with at most 18 decimals.
VALUE_LIMIT = 10**24
VALUE_DECIMALS = 18
# Even an operator's backfill ends here: before it there was nothing to meter, and some calendars fail.
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


_ASK_FOR_BACKFILL = "Ask the operator for a backfill if it was never sent before."
_NO_LONGER_KEPT = "Older events are no longer kept, so nobody can tell whether it was counted before."


class Unacceptable(Exception):
    """The event cannot be accepted: a reason and a sentence for the sender."""

    def __init__(self, reason: RejectionReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Window:
    """The times that events may have; both ends are allowed."""

    oldest: datetime
    newest: datetime
    is_backfill: bool = False


def window_at(
    now: datetime, *, late_window: timedelta, tolerance: timedelta, backfill: bool, kept_from: datetime | None = None
) -> Window:
    """A backfill goes back as far as events are kept: what is older may have been received before."""
    return Window((kept_from or EARLIEST) if backfill else now - late_window, now + tolerance, backfill)


def check_time(time: datetime, window: Window) -> None:
    """Raise Unacceptable for a time outside the window, exact to the microsecond."""
    if time < window.oldest:
        raise Unacceptable(
            RejectionReason.TOO_OLD,
            f"Its time {time.isoformat()} is before {window.oldest.isoformat()}, the oldest that is taken now. "
            + (_NO_LONGER_KEPT if window.is_backfill else _ASK_FOR_BACKFILL),
        )
    if time > window.newest:
        raise Unacceptable(
            RejectionReason.IN_FUTURE,
            f"Its time {time.isoformat()} is after {window.newest.isoformat()}: set the sender's clock and send again.",
        )


def fed_meters(data: dict[str, Any], time: datetime, rules: Rules) -> tuple[str, ...]:
    """Keys of the meters that an event with this data feeds; Unacceptable if a metered value is no number."""
    fed = []
    for rule in rules:
        if rule.field:
            value = data.get(rule.field)
            if value is None or time < rule.effective_from:
                continue
            if not (type(value) is int and 0 <= value < VALUE_LIMIT):
                _check_value(value, rule)
        elif time < rule.effective_from or (rule.special and not _reads_specially(rule, rule.special, data, time)):
            continue
        fed.append(rule.key)
    return tuple(fed)


def _reads_specially(rule: Rule, special: Special, data: dict[str, Any], time: datetime) -> bool:
    if not special.reads(data, time):
        return False
    if special.path:
        value = read_member(data, special.path)
        if value is None:
            return False
        _check_value(value, rule)
    return True


def unknown_subject(draft: Draft) -> Unacceptable:
    if draft.subject.startswith("sk-"):
        detail = "Its subject holds a secret key: send the key's id (key_…) or its SHA-256 in hexadecimal instead."
    else:
        detail = (
            f"No API key or organisation is called {draft.subject!r}. Name the key's id (key_…), "
            "the SHA-256 of the key in 64 hexadecimal digits, or the organisation's id (org_…) in `subject`."
        )
    return Unacceptable(RejectionReason.UNKNOWN_SUBJECT, detail)


def _check_value(value: Any, rule: Rule) -> None:
    if not rule.is_numeric:
        if isinstance(value, (str, int, Decimal)):
            return
        raise _invalid(rule, value, "must be a text or a number")
    number = readable_number(value)
    if number is None:
        raise _invalid(rule, value, 'must be a finite number, or a text like "12.5" that holds one')
    if number.copy_abs() >= VALUE_LIMIT or number.as_tuple().exponent < -VALUE_DECIMALS:  # type: ignore[operator]
        raise _invalid(rule, value, f"must be below 10^24 and have at most {VALUE_DECIMALS} decimals")
    if number < 0 and not rule.allows_negative:
        raise _invalid(rule, value, "must not be negative")


def _invalid(rule: Rule, value: Any, demand: str) -> Unacceptable:
    shown = str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, str) else str(value)
    return Unacceptable(RejectionReason.INVALID_VALUE, f"data.{rule.path} is {shown[:60]}: it {demand}.")
