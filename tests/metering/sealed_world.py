"""Days of usage to seal, and hands that tamper with them behind the product's back."""

from contextlib import contextmanager
from datetime import UTC, datetime

from django.db import connection

from metering.sealing import seal_days
from tests.metering.usage_world import event, send


def at(day: int, hour: int = 12, minute: int = 0) -> datetime:
    """An instant of November 2026."""
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


def receive(organisation, day: int, *numbers: int, hour: int = 12) -> None:
    """One batch on that day, with an event for each number."""
    events = [event(organisation.public_id, at(day, 0), event_id=f"e-{n}", input_tokens=n) for n in numbers]
    send(*events, now=at(day, hour))


def seal(now: datetime):
    """Everything that is due; the seals made."""
    return seal_days(now=now).seals


@contextmanager
def unguarded():
    """Inside, no trigger fires: what somebody with the database's password could do."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        try:
            yield cursor
        finally:
            cursor.execute("SET session_replication_role = origin")
