"""How late and how early an event may be, and to which day it belongs, to the microsecond and in every kind of zone."""

import json
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings

from metering.aggregation import compare_totals
from metering.formats.cloudevents import decode_event
from metering.judging import EARLIEST
from metering.models import Event, UsageDay
from metering.reports import usage
from tests import factories
from tests.metering.conftest import take
from tests.metering.usage_world import event, fold_all, send

pytestmark = pytest.mark.django_db

LATE = timedelta(days=settings.LATE_WINDOW_DAYS)
AHEAD = timedelta(seconds=settings.FUTURE_TOLERANCE_SECONDS)
TICK = timedelta(microseconds=1)
# Quarter-hour offsets, half an hour of daylight saving, changes in both directions.
ZONES = [
    "Asia/Kathmandu",
    "Pacific/Chatham",
    "Australia/Lord_Howe",
    "America/St_Johns",
    "Europe/Berlin",
    "America/New_York",
]
# The window reaches over a change of the clocks: autumn in the north, spring in the north; and a quiet time.
INSTANTS = [
    datetime(2026, 11, 15, 12, 0, 0, 7, tzinfo=UTC),
    datetime(2026, 4, 10, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2026, 7, 1, tzinfo=UTC),
]


def sent(acme_key, time, zone, event_id="1"):
    """As it arrives: JSON, with the sender's wall clock and offset."""
    members = {"specversion": "1.0", "id": event_id, "source": "gateway", "type": "ai.usage"}
    members |= {"subject": acme_key.api_key.public_id, "data": {"input_tokens": 1}}
    return decode_event(json.dumps(members | {"time": time.astimezone(ZoneInfo(zone)).isoformat()}).encode())


@pytest.mark.parametrize("now", INSTANTS)
@pytest.mark.parametrize("zone", ZONES)
def test_the_window_is_so_many_days_of_24_hours_whatever_the_senders_clock_shows(acme_key, now, zone):
    verdicts = take(
        sent(acme_key, now - LATE - TICK, zone, "too late"),
        sent(acme_key, now - LATE, zone, "just not too late"),
        sent(acme_key, now + AHEAD, zone, "just not too early"),
        sent(acme_key, now + AHEAD + TICK, zone, "too early"),
        now=now,
    )
    assert [one.reason for one in verdicts] == ["too_old", None, None, "in_future"]
    stored = dict(Event.objects.values_list("event_id", "time"))
    assert stored == {"just not too late": now - LATE, "just not too early": now + AHEAD}


def test_a_backfill_reaches_to_its_earliest_instant_and_no_further_ahead(acme_key):
    now = INSTANTS[0]
    verdicts = take(
        sent(acme_key, EARLIEST - TICK, "UTC", "before"),
        sent(acme_key, EARLIEST, "UTC", "earliest"),
        sent(acme_key, now - LATE - TICK, "Asia/Kathmandu", "late"),
        sent(acme_key, now + AHEAD, "Asia/Kathmandu", "ahead"),
        sent(acme_key, now + AHEAD + TICK, "Asia/Kathmandu", "too far ahead"),
        now=now,
        backfill=True,
    )
    assert [one.reason for one in verdicts] == ["too_old", None, None, None, "in_future"]


def test_a_resend_is_a_duplicate_until_the_window_closes_and_refused_after(acme_key):
    now = INSTANTS[0]
    first = sent(acme_key, now, "Asia/Kathmandu")
    assert take(first, now=now)[0].verdict == "accepted"
    assert take(first, now=now + LATE)[0].verdict == "duplicate"
    assert take(first, now=now + LATE + TICK)[0].reason == "too_old"
    assert Event.objects.count() == 1


def test_what_was_too_early_is_taken_once_its_time_is_near(acme_key):
    now = INSTANTS[0]
    early = sent(acme_key, now + timedelta(hours=1), "Asia/Kathmandu")
    assert take(early, now=now + timedelta(hours=1) - AHEAD - TICK)[0].reason == "in_future"
    assert take(early, now=now + timedelta(hours=1) - AHEAD)[0].verdict == "accepted"


def test_the_same_instant_in_another_zone_is_the_same_event(acme_key):
    now = INSTANTS[0]
    take(sent(acme_key, now, "Asia/Kathmandu"), now=now)
    assert take(sent(acme_key, now, "America/St_Johns"), now=now)[0].verdict == "duplicate"
    assert take(sent(acme_key, now + TICK, "America/St_Johns"), now=now)[0].verdict == "conflict"


# A day of 23, 23.5, 24, 24.5 and 25 hours.
@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("Asia/Kathmandu", date(2026, 10, 25)),
        ("Pacific/Chatham", date(2026, 9, 27)),
        ("Australia/Lord_Howe", date(2026, 10, 4)),
        ("Australia/Lord_Howe", date(2026, 4, 5)),
        ("Europe/Berlin", date(2026, 3, 29)),
        ("Europe/Berlin", date(2026, 10, 25)),
        ("America/St_Johns", date(2026, 11, 1)),
    ],
)
def test_a_day_begins_and_ends_at_local_midnight_to_the_microsecond(olivia, zone, day):
    organisation = factories.organisation("Far away", olivia, time_zone=zone)
    local = ZoneInfo(zone)
    start = datetime.combine(day, datetime.min.time(), local).astimezone(UTC)
    end = datetime.combine(day + timedelta(days=1), datetime.min.time(), local).astimezone(UTC)
    times = {start - TICK: 1, start: 10, start + (end - start) / 2: 100, end - TICK: 1000, end: 10000}
    late = [event(organisation.public_id, time, input_tokens=tokens) for time, tokens in times.items()]
    now = end + LATE - timedelta(days=1)
    for one in reversed(late):
        send(one, now=now - timedelta(days=1), backfill=False)
    fold_all(now)
    found = usage(
        organisation,
        start=start - timedelta(days=1),
        end=end + timedelta(days=1),
        granularity="day",
        group_by=("meter",),
    )
    tokens = {row.start: row.value for row in found.rows if row.group == ("input_tokens",)}
    assert (tokens[start], tokens[end]) == (1110, 10000)
    assert sum(tokens.values()) == 11111
    stored = {row.day: row.value for row in UsageDay.objects.filter(organisation=organisation) if row.value > 9}
    assert (stored[day], stored[day + timedelta(days=1)]) == (1110, 10000)
    assert compare_totals(organisation) == []


def test_both_hours_of_the_same_name_count_apart(olivia):
    organisation = factories.organisation("Berlin", olivia, time_zone="Europe/Berlin")
    texts = {"2026-10-25T02:30:00+02:00": 1, "2026-10-25T02:30:00+01:00": 10, "2026-10-25T03:00:00+01:00": 100}
    for text, tokens in texts.items():
        at = datetime.fromisoformat(text)
        send(event(organisation.public_id, at, input_tokens=tokens), now=INSTANTS[0], backfill=False)
    fold_all(INSTANTS[0])
    start = datetime(2026, 10, 25, tzinfo=UTC)
    found = usage(organisation, start=start, end=start + timedelta(days=1), granularity="hour", group_by=("meter",))
    hours = {row.start: row.value for row in found.rows if row.group == ("input_tokens",)}
    assert hours == {start: 1, start + timedelta(hours=1): 10, start + timedelta(hours=2): 100}
