"""Quarter hours: the grid of totals. Every zone's midnight and every tariff window falls on it. Pure datetime."""

from datetime import UTC, datetime, timedelta

QUARTER_HOUR = timedelta(minutes=15)
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def is_aligned(at: datetime) -> bool:
    return not (at - EPOCH) % QUARTER_HOUR


def floor(at: datetime) -> datetime:
    """The start of the quarter hour that an instant lies in, in UTC."""
    return at.astimezone(UTC) - (at - EPOCH) % QUARTER_HOUR


def ceiling(at: datetime) -> datetime:
    """The first quarter hour's start at or after an instant, in UTC."""
    return at.astimezone(UTC) + (EPOCH - at) % QUARTER_HOUR
