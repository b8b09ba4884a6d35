"""Which events are accepted, and what they feed: the matrix of times, values and subjects."""

import json
from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest
from django.conf import settings

from metering import catalogue
from metering.exact_json import decode_object
from metering.models import Event, Meter
from tests.metering.conftest import NOW, take

pytestmark = pytest.mark.django_db

LATE = timedelta(days=settings.LATE_WINDOW_DAYS)
AHEAD = timedelta(seconds=settings.FUTURE_TOLERANCE_SECONDS)
TICK = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        (NOW, None),
        (NOW - LATE, None),
        (NOW - LATE - TICK, "too_old"),
        (NOW + AHEAD, None),
        (NOW + AHEAD + TICK, "in_future"),
        (NOW - timedelta(days=4000), "too_old"),
        (NOW + timedelta(days=4000), "in_future"),
    ],
)
def test_the_window_of_times_is_exact_to_the_microsecond(draft, time, reason):
    [verdict] = take(draft(time=time))
    assert verdict.reason == reason
    assert Event.objects.count() == (reason is None)


def test_a_backfill_takes_old_events_and_no_future_ones(draft):
    assert take(draft("1", time=NOW - timedelta(days=4000)), backfill=True)[0].verdict == "accepted"
    assert take(draft("2", time=NOW + AHEAD + TICK), backfill=True)[0].reason == "in_future"
    assert take(draft("3", time=NOW.replace(year=1)), backfill=True)[0].reason == "too_old"


@pytest.mark.parametrize(
    "value",
    ["0", "1", "12.5", '"7"', '"0.000000000000000001"', "1e3", '"1E+2"', "999999999999999999999999", "-0", "0.0"],
)
def test_a_finite_number_feeds_its_meter(draft, value):
    [verdict] = take(raw(draft, value))
    assert (verdict.verdict, verdict.meters) == ("accepted", ("output_tokens", "requests"))


@pytest.mark.parametrize(
    "value",
    [
        '"NaN"', '"Infinity"', '"-Infinity"', "1e400", "1e24", "1000000000000000000000000", "0.0000000000000000001",
        "true", "false", '""', '" 1"', '"1,000"', '"1_000"', '"0x10"', '"\uff11"', '"one"',
        "[]", "{}", "[1]", "-1", '"-1"', "-0.5", '"' + "9" * 100 + '"',
    ],
)  # fmt: skip
def test_what_is_no_finite_amount_is_refused(draft, value):
    [verdict] = take(raw(draft, value))
    assert (verdict.verdict, verdict.reason, verdict.meters) == ("rejected", "invalid_value", ())
    assert "data.output_tokens" in verdict.detail
    assert Event.objects.count() == 0


def raw(draft, value):
    text = f'{{"output_tokens": {value}}}'.encode()
    return msgspec.structs.replace(draft(), raw_data=text, data=decode_object(text))


@pytest.mark.parametrize("data", [{}, {"output_tokens": None}])
def test_unknown_is_not_zero(draft, data):
    """A member that is null or absent leaves its meter unfed."""
    assert take(draft(data=data))[0].meters == ("requests",)


def test_decimals_stay_exact_in_the_table(draft):
    from django.db import connection

    take(draft(output_tokens=Decimal("123456789012345.123456789012345678")))
    with connection.cursor() as cursor:
        cursor.execute("SELECT data->>'output_tokens' FROM event")
        assert cursor.fetchone() == ("123456789012345.123456789012345678",)


def test_values_that_no_meter_reads_may_be_anything(draft):
    assert take(draft(whatever="NaN", other=True))[0].verdict == "accepted"


def test_an_event_that_matches_nothing_is_kept_and_says_so(draft):
    [verdict] = take(draft(type="storage.usage", output_tokens="not a number"))
    assert (verdict.verdict, verdict.meters) == ("accepted", ())


def test_events_from_before_a_meter_do_not_feed_it(draft):
    Meter.objects.filter(key="output_tokens").update(effective_from=NOW)
    catalogue.forget()
    assert take(draft("1", output_tokens=1, time=NOW - TICK))[0].meters == ("requests",)
    assert take(draft("2", output_tokens=1, time=NOW))[0].meters == ("output_tokens", "requests")


def test_an_archived_meter_is_not_fed(draft):
    Meter.objects.filter(key="requests").update(archived_at=NOW)
    catalogue.forget()
    assert take(draft(output_tokens=1))[0].meters == ("output_tokens",)


@pytest.mark.parametrize("subject", ["key_unknown", "org_unknown", "acme", "ab" * 32, "😀"])
def test_an_unknown_subject_is_refused(draft, subject):
    [verdict] = take(draft(subject=subject))
    assert (verdict.verdict, verdict.reason) == ("rejected", "unknown_subject")


def test_a_verdict_encodes_to_the_reply_of_the_api(draft):
    [verdict] = take(draft("1", output_tokens=1))
    assert json.loads(msgspec.json.encode(verdict)) == {
        "source": "gateway",
        "id": "1",
        "verdict": "accepted",
        "meters": ["output_tokens", "requests"],
        "reason": None,
        "detail": None,
        "time_assumed": False,
    }
