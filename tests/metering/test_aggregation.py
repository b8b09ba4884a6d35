from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection

from accounts.models import ApiKey
from accounts.organisations import update_organisation
from metering.aggregation import (
    UnalignedRangeError,
    compare_totals,
    fold_pending,
    lag,
    organisations_with_moved_days,
    rebuild_days,
    rebuild_totals,
)
from metering.models import IngestBatch, Meter, Series, UsageDay, UsageInterval
from tests import factories
from tests.metering.usage_world import event, fold_all, send

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)
QUARTER = datetime(2026, 11, 15, 11, 45, tzinfo=UTC)


@pytest.fixture
def key(acme_key):
    return acme_key.api_key.public_id


def totals():
    """Meter key and model -> value and count, over everything."""
    names = dict(Meter.objects.values_list("pk", "key"))
    series = {row.id: (names[row.meter_id], row.model) for row in Series.objects.all()}
    found = {}
    for row in UsageInterval.objects.all():
        value, count = found.get(series[row.series_id], (Decimal(0), 0))
        found[series[row.series_id]] = (value + row.value, count + row.count)
    return found


def test_events_of_one_quarter_hour_are_one_reading_per_meter(key, acme):
    send(event(key, QUARTER, input_tokens=10, output_tokens=5), now=NOW)
    send(event(key, QUARTER + timedelta(minutes=14, seconds=59), input_tokens=7), now=NOW)

    assert fold_all(NOW) == 2
    assert totals() == {
        ("input_tokens", "m-1"): (Decimal(17), 2),
        ("output_tokens", "m-1"): (Decimal(5), 1),
        ("requests", "m-1"): (Decimal(2), 2),
    }
    assert {row.starts_at for row in UsageInterval.objects.all()} == {QUARTER}
    assert {row.day for row in UsageDay.objects.all()} == {date(2026, 11, 15)}


def test_folding_again_adds_nothing(key):
    send(event(key, QUARTER, input_tokens=10), now=NOW)
    fold_all(NOW)
    before = totals()
    assert fold_pending(now=NOW).batches == 0
    assert totals() == before


def test_decimal_strings_and_fractions_are_exact(key):
    send(
        event(key, QUARTER, input_tokens="0.1"),
        event(key, QUARTER, input_tokens=Decimal("0.2")),
        event(key, QUARTER, input_tokens="1e3"),
        now=NOW,
    )
    fold_all(NOW)
    assert totals()["input_tokens", "m-1"] == (Decimal("1000.3"), 3)


def test_null_and_absent_feed_nothing_and_zero_is_a_reading(key):
    send(event(key, QUARTER, input_tokens=None), event(key, QUARTER, output_tokens=0), now=NOW)
    fold_all(NOW)
    assert totals() == {("output_tokens", "m-1"): (Decimal(0), 1), ("requests", "m-1"): (Decimal(2), 2)}


def test_unreadable_value_of_a_meter_defined_later_does_not_stop_folding(key):
    send(
        event(key, QUARTER, seconds="soon"),
        event(key, QUARTER, seconds=True),
        event(key, QUARTER, seconds={"a": 1}),
        event(key, QUARTER, seconds="NaN"),
        event(key, QUARTER, seconds=3),
        now=NOW,
    )
    meter("seconds", value_field="seconds")
    fold_all(NOW)
    assert totals()["seconds", ""] == (Decimal(3), 1)


def test_events_that_match_no_meter_are_folded_into_nothing(key):
    send(event(key, QUARTER, type="door.opened"), now=NOW)
    assert fold_all(NOW) == 1
    assert totals() == {}
    assert IngestBatch.objects.pending().count() == 0


def meter(key, **fields):
    values = {"name": key, "event_type": "ai.usage", "aggregation": "sum", "unit": "seconds"} | fields
    return Meter.objects.create(key=key, **values)


def test_meter_reads_from_its_first_instant_until_it_is_archived(key):
    meter("early", value_field="seconds", archived_at=QUARTER + timedelta(minutes=5))
    meter("late", value_field="seconds", effective_from=QUARTER + timedelta(minutes=5))
    meter("calls_late", aggregation="count", effective_from=QUARTER + timedelta(minutes=5))
    send(
        event(key, QUARTER + timedelta(minutes=4), seconds=1),
        event(key, QUARTER + timedelta(minutes=5), seconds=10),
        event(key, QUARTER + timedelta(minutes=6), seconds=100),
        now=NOW,
    )
    fold_all(NOW)
    found = totals()
    assert found["early", ""] == (Decimal(1), 1)
    assert found["late", ""] == (Decimal(110), 2)
    assert found["calls_late", ""] == (Decimal(2), 2)
    assert compare_totals() == []


def test_meters_keep_their_own_dimensions_apart(key):
    meter("by_tier", value_field="seconds", dimensions=["service_tier", "model"])
    meter("by_region", value_field="seconds", dimensions=["region"])
    send(
        event(key, QUARTER, seconds=1, service_tier="batch", region="eu"),
        event(key, QUARTER, seconds=2, service_tier="flex", region="eu"),
        event(key, QUARTER, seconds=4, region="us"),
        now=NOW,
    )
    fold_all(NOW)
    kept = {
        (Meter.objects.get(pk=row.meter_id).key, row.model, tuple(row.labels.items())): UsageInterval.objects.get(
            series_id=row.id
        ).value
        for row in Series.objects.filter(meter__key__in=["by_tier", "by_region"])
    }
    assert kept == {
        ("by_tier", "m-1", (("service_tier", "batch"),)): 1,
        ("by_tier", "m-1", (("service_tier", "flex"),)): 2,
        ("by_tier", "m-1", ()): 4,
        ("by_region", "", (("region", "eu"),)): 3,
        ("by_region", "", (("region", "us"),)): 4,
    }


def test_types_with_the_same_field_feed_only_their_own_meters(key):
    meter("robot_seconds", event_type="robot.moved", value_field="input_tokens", dimensions=[])
    send(event(key, QUARTER, input_tokens=1), event(key, QUARTER, type="robot.moved", input_tokens=50), now=NOW)
    fold_all(NOW)
    assert totals()["robot_seconds", ""] == (Decimal(50), 1)
    assert totals()["input_tokens", "m-1"] == (Decimal(1), 1)


def test_models_that_read_like_separators_are_different_series(key):
    for model in ("a/b", "a", "b", '{"a": 1}', "{}/a", "-"):
        send(event(key, QUARTER, model=model, input_tokens=1), now=NOW)
    fold_all(NOW)
    assert Series.objects.filter(meter__key="input_tokens").count() == 6


def test_event_that_names_the_organisation_has_no_key(acme):
    send(event(acme.public_id, QUARTER, input_tokens=3), now=NOW)
    fold_all(NOW)
    series = Series.objects.get(meter__key="input_tokens")
    assert (series.api_key_id, series.project_id) == (None, factories.default_project(acme).pk)


def test_key_was_last_used_when_its_latest_event_happened(key):
    send(event(key, QUARTER, input_tokens=3), event(key, QUARTER - timedelta(hours=5), input_tokens=3), now=NOW)
    fold_all(NOW)
    assert ApiKey.objects.get(public_id=key).last_used_at == QUARTER


def test_group_takes_whole_batches_up_to_about_its_limit_and_at_least_one(key):
    for _ in range(6):
        send(*(event(key, QUARTER, input_tokens=1) for _ in range(10)), now=NOW)
    folded = fold_pending(now=NOW, limit_events=30)
    assert (folded.batches, folded.events) == (3, 30)
    assert fold_pending(now=NOW, limit_events=1).batches == 1
    assert fold_pending(now=NOW).batches == 2


def test_one_organisation_can_be_folded_alone(key, acme, globex):
    globex_key = factories.api_key(globex).api_key.public_id
    send(event(key, QUARTER, input_tokens=1), event(globex_key, QUARTER, input_tokens=1), now=NOW)
    assert fold_all(NOW, organisation=globex) == 1
    assert set(UsageInterval.objects.values_list("organisation_id", flat=True)) == {globex.pk}


def test_lag_says_what_waits_and_for_how_long(key, acme, globex):
    send(event(key, QUARTER, input_tokens=1), event(key, QUARTER, input_tokens=1), now=NOW)
    behind = lag(NOW + timedelta(seconds=9))
    assert (behind.pending_batches, behind.pending_events, behind.oldest_seconds) == (1, 2, 9.0)
    assert lag(NOW, globex).pending_batches == 0
    fold_all(NOW)
    assert (lag(NOW).pending_events, lag(NOW).oldest_seconds) == (0, 0.0)


def test_days_are_the_organisations(acme, key):
    # 22:45 UTC is the next day in Berlin.
    send(event(key, datetime(2026, 11, 14, 23, 15, tzinfo=UTC), input_tokens=1), now=NOW)
    fold_all(NOW)
    assert UsageDay.objects.filter(value=1).first().day == date(2026, 11, 15)


def test_compare_reports_a_changed_a_missing_and_a_surplus_total(key, acme):
    send(event(key, QUARTER, input_tokens=10, output_tokens=5), now=NOW)
    fold_all(NOW)
    assert compare_totals(acme) == []
    ids = {row.meter.key: row.id for row in Series.objects.select_related("meter")}
    UsageInterval.objects.filter(series_id=ids["input_tokens"]).update(value=11)
    UsageInterval.objects.filter(series_id=ids["output_tokens"]).delete()
    UsageInterval.objects.create(
        organisation=acme, series_id=ids["requests"], starts_at=QUARTER - timedelta(days=40), value=4, count=4
    )

    found = {(one.series_id, one.period): (one.expected_value, one.value) for one in compare_totals(acme)}
    assert found[str(ids["input_tokens"]), "interval"] == (Decimal(10), Decimal(11))
    assert found[str(ids["output_tokens"]), "interval"] == (Decimal(5), None)
    assert found[str(ids["requests"]), "interval"] == (None, Decimal(4))
    assert found[str(ids["output_tokens"]), "day"] == (None, Decimal(5))
    assert len(found) == 6


def test_compare_leaves_out_what_is_not_folded_yet(key, acme):
    send(event(key, QUARTER, input_tokens=10), now=NOW)
    assert compare_totals(acme) == []


def test_rebuild_puts_back_what_events_say(key, acme):
    send(event(key, QUARTER, input_tokens=10, output_tokens=5), now=NOW)
    send(event(key, QUARTER - timedelta(hours=30), input_tokens=1), now=NOW)
    fold_all(NOW)
    before = totals()
    UsageInterval.objects.update(value=99)
    UsageDay.objects.all().delete()
    Series.objects.filter(meter__key="output_tokens").delete()

    rebuild_totals(acme, QUARTER - timedelta(days=2), QUARTER + timedelta(minutes=15))
    assert totals() == before
    assert compare_totals() == []


def test_rebuild_of_an_afternoon_keeps_the_rest_of_the_day(key, acme):
    send(event(key, QUARTER, input_tokens=10), event(key, QUARTER - timedelta(hours=2), input_tokens=1), now=NOW)
    fold_all(NOW)
    before = totals()
    rebuild_totals(acme, QUARTER, QUARTER + timedelta(minutes=15))
    assert (totals(), compare_totals()) == (before, [])
    assert UsageDay.objects.filter(value=11).exists()


def test_rebuild_leaves_pending_batches_to_folding(key, acme):
    send(event(key, QUARTER, input_tokens=10), now=NOW)
    rebuild_totals(acme, QUARTER, NOW)
    assert totals() == {}
    fold_all(NOW)
    assert totals()["input_tokens", "m-1"] == (Decimal(10), 1)


def test_rebuild_reads_a_meter_that_was_defined_after_its_events(key, acme):
    send(event(key, QUARTER, seconds=3), now=NOW)
    fold_all(NOW)
    meter("seconds", value_field="seconds")
    assert len(compare_totals()) == 1
    rebuild_totals(acme, QUARTER, NOW)
    assert (totals()["seconds", ""], compare_totals()) == ((Decimal(3), 1), [])


def test_rebuild_refuses_half_a_quarter_hour(acme):
    with pytest.raises(UnalignedRangeError):
        rebuild_totals(acme, QUARTER + timedelta(minutes=1), NOW)


def test_days_are_made_again_when_the_zone_changes(acme, key, olivia):
    send(event(key, datetime(2026, 11, 14, 23, 15, tzinfo=UTC), input_tokens=1), now=NOW)
    fold_all(NOW)
    update_organisation(acme, actor=olivia, time_zone="America/New_York")
    assert organisations_with_moved_days() == [acme]

    # What is folded before the days are rebuilt joins the old ones, so that they stay of one zone.
    send(event(key, datetime(2026, 11, 14, 23, 20, tzinfo=UTC), input_tokens=1), now=NOW)
    fold_all(NOW)
    assert set(UsageDay.objects.values_list("day", flat=True)) == {date(2026, 11, 15)}
    assert compare_totals() == []

    rebuild_days(acme)
    assert organisations_with_moved_days() == []
    assert set(UsageDay.objects.values_list("day", flat=True)) == {date(2026, 11, 14)}
    assert compare_totals() == []


def test_events_are_found_by_their_batch_even_without_statistics(key):
    """The way in must be the index of batches: any other reads a month of events for each second of them."""
    send(event(key, QUARTER, input_tokens=1), now=NOW)
    explained = []

    def explain(execute, sql, params, many, context):
        if "FROM keyed" in str(sql):
            execute("EXPLAIN " + sql, params, many, context)
            explained.extend(line for (line,) in context["cursor"].fetchall())
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        fold_all(NOW)
    plan = "\n".join(explained)
    assert "event_2026_11_batch_id_idx" in plan
    assert "event_2026_11_identity" not in plan
