from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from accounts.organisations import update_organisation
from metering.aggregation import rebuild_days
from metering.aggregation.rebuilding import UnalignedRangeError
from metering.buckets import bucket_starts, midnight
from metering.models import Meter
from metering.reports import (
    MixedUnitsError,
    NotAdditiveError,
    UnknownMeterError,
    UsageFilter,
    last_received_at,
    live_rate,
    pending_events,
    quantities,
    token_meters,
    usage,
)
from tests import factories
from tests.metering.usage_world import correction, event, fold_all, send

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
QUARTER_HOUR = timedelta(minutes=15)


@pytest.fixture
def key(acme_key):
    return acme_key.api_key.public_id


def spread_usage(subject, start, end, *, step=timedelta(hours=7, minutes=11)):
    """An event every few hours, of growing size, so that no two buckets are alike."""
    events, at, size = [], start, 1
    while at < end:
        events.append(event(subject, at, model=f"m-{size % 3}", input_tokens=size, output_tokens=f"{size}.25"))
        at, size = at + step, size + 1
    send(*events, now=NOW)
    fold_all(NOW)
    return events


def added(report, number=0):
    figures = {}
    for row in report.rows:
        name = row.group[number] if row.group else ""
        figures[name] = figures.get(name, Decimal(0)) + row.value
    return figures


@pytest.mark.parametrize(
    ("zone", "month"),
    [
        ("Asia/Kathmandu", (2026, 10)),
        ("America/New_York", (2025, 11)),
        ("America/New_York", (2026, 3)),
        ("Australia/Lord_Howe", (2026, 4)),
        ("Australia/Lord_Howe", (2026, 10)),
        ("Africa/Cairo", (2026, 4)),
        ("UTC", (2026, 2)),
    ],
)
def test_days_hours_quarters_and_total_of_a_month_agree(zone, month, acme, olivia, key):
    acme = update_organisation(acme, actor=olivia, time_zone=zone)
    rebuild_days(acme)
    first = datetime(*month, 1, tzinfo=UTC).date()
    start, end = (midnight(day.replace(day=1), acme.zone) for day in (first, first + timedelta(days=32)))
    spread_usage(key, start - timedelta(days=1), end + timedelta(days=1))
    reports = {
        granularity: usage(acme, start=start, end=end, granularity=granularity)
        for granularity in ("total", "month", "day", "hour", "interval")
    }
    expected = added(reports["total"])
    assert expected["requests"] > 90
    assert {granularity: added(report) for granularity, report in reports.items()} == dict.fromkeys(reports, expected)
    for granularity, report in reports.items():
        assert {row.start for row in report.rows} <= set(bucket_starts(start, end, granularity, acme.zone))


def test_days_from_quarter_hours_equal_the_kept_days(acme, olivia, key):
    start, end = (midnight(datetime(2026, month, 1, tzinfo=UTC).date(), acme.zone) for month in (10, 11))
    spread_usage(key, start, end)
    kept = usage(acme, start=start, end=end, granularity="day", group_by=("meter", "model"))
    # An unaligned range cannot use days; its whole days are the same.
    unaligned = usage(acme, start=start - HOUR, end=end + HOUR, granularity="day", group_by=("meter", "model"))
    assert [row for row in unaligned.rows if start <= row.start < end] == list(kept.rows)


def test_a_changed_zone_shows_right_days_before_they_are_rebuilt(acme, olivia, key):
    send(event(key, datetime(2026, 11, 14, 23, 15, tzinfo=UTC), input_tokens=1), now=NOW)
    fold_all(NOW)
    acme = update_organisation(acme, actor=olivia, time_zone="America/New_York")
    start = midnight(datetime(2026, 11, 14, tzinfo=UTC).date(), acme.zone)
    report = usage(acme, start=start, end=start + timedelta(days=1), granularity="day")
    assert {row.start for row in report.rows} == {start}


def test_each_group_has_its_values_and_their_names(acme, key):
    research = factories.project(acme, "Research")
    other = factories.api_key(acme, "Notebook", project=research)
    send(event(key, NOW - HOUR, input_tokens=1), event(acme.public_id, NOW - HOUR, input_tokens=4), now=NOW)
    send(event(other.api_key.public_id, NOW - HOUR, model="m-2", input_tokens=2), now=NOW)
    fold_all(NOW)

    report = usage(
        acme,
        start=NOW - HOUR,
        end=NOW,
        granularity="total",
        group_by=("project", "api_key", "model"),
        filters=UsageFilter(meters=("input_tokens",)),
    )
    default = factories.default_project(acme)
    assert {row.group: row.value for row in report.rows} == {
        (default.public_id, key, "m-1"): 1,
        (default.public_id, "", "m-1"): 4,
        (research.public_id, other.api_key.public_id, "m-2"): 2,
    }
    assert report.names["project"] == {default.public_id: "Default", research.public_id: "Research"}
    assert report.names["api_key"] == {key: "Production", other.api_key.public_id: "Notebook"}


def test_labels_group_and_filter(acme, key):
    Meter.objects.create(
        key="seconds",
        name="Seconds",
        event_type="ai.usage",
        value_field="seconds",
        aggregation="sum",
        unit="seconds",
        dimensions=["service_tier"],
    )
    events = [
        event(key, NOW - HOUR, seconds=1, service_tier="batch"),
        event(key, NOW - HOUR, seconds=2, service_tier="flex"),
        event(key, NOW - HOUR, seconds=4),
    ]
    send(*events, now=NOW)
    fold_all(NOW)
    window = {"start": NOW - HOUR, "end": NOW, "granularity": "total", "group_by": ("service_tier",)}
    only_seconds = UsageFilter(meters=("seconds",))
    assert added(usage(acme, **window, filters=only_seconds)) == {"batch": 1, "flex": 2, "": 4}
    only_flex = UsageFilter(meters=("seconds",), labels={"service_tier": "flex"})
    assert added(usage(acme, **window, filters=only_flex)) == {"flex": 2}


def test_filters_narrow_each_dimension(acme, acme_key, key):
    research = factories.project(acme, "Research")
    other = factories.api_key(acme, "Notebook", project=research).api_key
    send(event(key, NOW - HOUR, input_tokens=1), now=NOW)
    send(event(other.public_id, NOW - HOUR, model="m-2", input_tokens=2), now=NOW)
    fold_all(NOW)
    for filters, expected in [
        (UsageFilter(models=("m-2",)), 2),
        (UsageFilter(models=("m-1", "m-2")), 3),
        (UsageFilter(project_ids=(research.pk,)), 2),
        (UsageFilter(api_key_ids=(acme_key.api_key.pk,)), 1),
    ]:
        report = usage(acme, start=NOW - HOUR, end=NOW, granularity="total", filters=filters)
        assert added(report)["input_tokens"] == expected


def test_another_organisations_usage_does_not_exist(acme, globex, key):
    send(event(key, NOW - HOUR, input_tokens=1), now=NOW)
    fold_all(NOW)
    assert usage(globex, start=NOW - HOUR, end=NOW, granularity="total").rows == ()
    assert quantities(globex, start=NOW - HOUR, end=NOW) == []


def test_range_is_half_open(acme, key):
    send(event(key, NOW, input_tokens=1), event(key, NOW - QUARTER_HOUR, input_tokens=2), now=NOW)
    fold_all(NOW)
    before = usage(acme, start=NOW - QUARTER_HOUR, end=NOW, granularity="total")
    after = usage(acme, start=NOW, end=NOW + QUARTER_HOUR, granularity="total")
    assert (added(before)["input_tokens"], added(after)["input_tokens"]) == (2, 1)


@pytest.mark.parametrize(
    ("meters", "error", "words"),
    [
        (("nonsense",), UnknownMeterError, "nonsense"),
        (("input_tokens", "requests"), MixedUnitsError, "requests and tokens"),
        (("output_tokens", "reasoning_tokens"), MixedUnitsError, "part of Output tokens"),
        ((), MixedUnitsError, "cannot be added up"),
        (("peak", "input_tokens"), NotAdditiveError, r"Peak \(maximum\) cannot be added"),
    ],
)
def test_what_cannot_be_added_is_refused_with_a_reason(meters, error, words, acme):
    Meter.objects.create(
        key="peak", name="Peak", event_type="ai.usage", value_field="peak", aggregation="max", unit="tokens"
    )
    window = {"start": NOW - HOUR, "end": NOW, "granularity": "total", "group_by": ("model",)}
    with pytest.raises(error, match=words):
        usage(acme, **window, filters=UsageFilter(meters=meters))


def test_tokens_in_total_count_no_token_twice(acme, key):
    send(event(key, NOW - HOUR, input_tokens=1, output_tokens=10, reasoning_tokens=4, cache_read_tokens=100), now=NOW)
    fold_all(NOW)
    tokens = UsageFilter(meters=token_meters())
    report = usage(acme, start=NOW - HOUR, end=NOW, granularity="total", group_by=(), filters=tokens)
    assert [row.value for row in report.rows] == [111]


def test_range_must_lie_on_quarter_hours(acme):
    with pytest.raises(UnalignedRangeError):
        usage(acme, start=NOW - timedelta(minutes=7), end=NOW, granularity="total")


def test_report_takes_one_query_for_figures_and_one_per_kind_of_name(acme, key, django_assert_num_queries):
    day = midnight(NOW.date(), acme.zone)
    for number in range(12):
        named = factories.api_key(acme, f"Key {number}").api_key.public_id
        send(event(named, NOW - HOUR, model=f"m-{number}", input_tokens=1), now=NOW)
    fold_all(NOW)
    # Meters and figures.
    with django_assert_num_queries(2):
        usage(acme, start=day, end=day + timedelta(days=1), granularity="day", group_by=("meter", "model"))
    # And the names of projects and of keys.
    with django_assert_num_queries(4):
        usage(acme, start=day, end=day + timedelta(days=1), granularity="day", group_by=("meter", "project", "api_key"))


def test_quantities_are_cut_at_the_splits(acme, key):
    for hours in (1, 2, 3):
        send(event(key, NOW - hours * HOUR, input_tokens=10**hours), now=NOW)
    fold_all(NOW)
    splits = [NOW - 5 * HOUR, NOW - 2 * HOUR, NOW - HOUR, NOW]
    found = quantities(acme, start=NOW - 3 * HOUR, end=NOW, splits=splits)
    tokens = [(one.start, one.end, one.value) for one in found if one.meter_key == "input_tokens"]
    assert tokens == [
        (NOW - 3 * HOUR, NOW - 2 * HOUR, 1000),
        (NOW - 2 * HOUR, NOW - HOUR, 100),
        (NOW - HOUR, NOW, 10),
    ]
    whole = quantities(acme, start=NOW - 3 * HOUR, end=NOW)
    assert [one.value for one in whole if one.meter_key == "input_tokens"] == [1110]


def test_pending_events_are_those_of_the_range_that_no_fold_has_seen(acme, key):
    window = {"start": NOW - 2 * HOUR, "end": NOW}
    assert pending_events(acme, **window) == 0
    send(event(key, NOW - HOUR, input_tokens=1), event(key, NOW + QUARTER_HOUR, input_tokens=1), now=NOW)
    assert pending_events(acme, **window) == 1
    fold_all(NOW)
    assert pending_events(acme, **window) == 0


def test_live_rate_counts_recent_tokens_folded_or_not(acme, key):
    assert live_rate(acme, NOW).tokens == 0
    send(event(key, NOW - timedelta(minutes=2), input_tokens=100, output_tokens=50, reasoning_tokens=50), now=NOW)
    send(event(key, NOW - timedelta(minutes=9), input_tokens=7777), event(key, NOW, input_tokens=8888), now=NOW)
    rate = live_rate(acme, NOW + timedelta(seconds=30))
    assert (rate.tokens, rate.per_minute) == (Decimal(150), Decimal(30))
    fold_all(NOW)
    assert live_rate(acme, NOW).tokens == 150


def test_live_rate_knows_of_conditions_and_corrections_as_totals_do(acme, key, monkeypatch):
    output = Meter.objects.get(key="output_tokens")
    output.filters = [{"field": "operation", "operator": "eq", "values": ["chat"]}]
    output.save()
    at = NOW - timedelta(minutes=2)
    send(event(key, at, event_id="a", input_tokens=100, output_tokens=9, operation="chat"), now=NOW)
    send(event(key, at, event_id="b", input_tokens=50, output_tokens=70, operation="embed"), now=NOW)
    send(event(key, at, event_id="c", input_tokens="7", output_tokens=None), now=NOW)
    assert live_rate(acme, NOW).tokens == 166
    send(correction(key, "a", NOW), now=NOW)
    send(correction(key, "b", NOW, data={"model": "m-1", "input_tokens": 60}), now=NOW)
    assert live_rate(acme, NOW).tokens == 67
    fold_all(NOW)
    assert live_rate(acme, NOW).tokens == 67
    monkeypatch.setattr("metering.reports.freshness.LIVE_EVENTS", 1)
    assert live_rate(acme, NOW).tokens == 67


def test_live_rate_counts_no_meter_that_begins_later(acme, key):
    Meter.objects.filter(key="output_tokens").update(effective_from=NOW + HOUR)
    send(event(key, NOW - timedelta(minutes=2), input_tokens=1, output_tokens=9), now=NOW)
    assert live_rate(acme, NOW).tokens == 1


def test_live_rate_of_a_flood_comes_from_quarter_hours(acme, key, monkeypatch):
    monkeypatch.setattr("metering.reports.freshness.LIVE_EVENTS", 1)
    send(*(event(key, NOW - timedelta(minutes=2), input_tokens=100) for _ in range(3)), now=NOW)
    fold_all(NOW)
    rate = live_rate(acme, NOW)
    assert (rate.start, rate.tokens, rate.per_minute) == (NOW - QUARTER_HOUR, Decimal(300), Decimal(20))


def test_last_received_is_the_time_of_the_latest_batch(acme, key):
    assert last_received_at(acme) is None
    send(event(key, NOW - HOUR, input_tokens=1), now=NOW)
    assert last_received_at(acme) == NOW
