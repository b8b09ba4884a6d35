"""Largest, smallest, latest, average, different values: folded like sums, exact after whatever happens."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from accounts.models import Organisation
from accounts.organisations import update_organisation
from metering.aggregation import compare_totals, rebuild_days, rebuild_totals
from metering.models import MeterRevision, Series, UniqueDayValue, UniqueValue, UsageDay, UsageInterval
from tests.metering.meters_world import KINDS, figure, kept, meter, meter_of_every_kind
from tests.metering.usage_world import correction, event, fold_all, send

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)
QUARTER = datetime(2026, 11, 15, 11, 45, tzinfo=UTC)
SIZES = [5, 2, 9, 2, 4]


@pytest.fixture
def key(acme_key):
    return acme_key.api_key.public_id


def minutes(count):
    return timedelta(minutes=count)


def values(table=UsageInterval, model="m-1"):
    """Kind -> values, one per quarter hour or day."""
    found = kept(table)
    return {kind: [value for value, _ in found.get((f"size_{kind}", model), [])] for kind in KINDS}


def expected(*groups):
    return {kind: [figure(kind, sizes) for sizes in groups] for kind in KINDS}


def test_each_aggregation_makes_its_own_figure_of_a_quarter_hour(key):
    meter_of_every_kind()
    send(*[event(key, QUARTER + minutes(n), size=size) for n, size in enumerate(SIZES)], now=NOW)
    fold_all(NOW)
    assert values() == values(UsageDay) == expected(SIZES)
    assert {count for rows in kept().values() for _, count in rows} == {5}
    assert compare_totals() == []


def test_batches_are_merged_whatever_their_order(key):
    meter_of_every_kind()
    for n in (3, 0, 4, 1, 2):
        send(event(key, QUARTER + minutes(n), size=SIZES[n]), now=NOW)
        fold_all(NOW)
    assert values() == values(UsageDay) == expected(SIZES)
    assert compare_totals() == []


def test_days_are_made_of_all_their_quarter_hours(key):
    meter_of_every_kind()
    earlier = QUARTER - minutes(60)
    send(event(key, QUARTER, size=4), event(key, QUARTER + minutes(1), size=7), now=NOW)
    fold_all(NOW)
    send(event(key, earlier, size=7), event(key, earlier + minutes(1), size=3), now=NOW)
    fold_all(NOW)
    assert values() == expected([7, 3], [4, 7])
    assert values(UsageDay) == expected([7, 3, 4, 7])
    assert compare_totals() == []


def test_the_latest_of_one_instant_is_the_one_with_the_largest_key(key):
    meter_of_every_kind()
    drafts = [event(key, QUARTER, event_id=f"tied-{n}", size=n) for n in range(6)]
    send(*drafts[:3], now=NOW)
    send(*drafts[3:], now=NOW)
    fold_all(NOW)
    once = values()["latest"]
    UsageInterval.objects.all().delete()
    UsageDay.objects.all().delete()
    rebuild_all(NOW)
    assert values()["latest"] == once


def rebuild_all(now):
    for organisation in Organisation.objects.all():
        rebuild_totals(organisation, QUARTER - timedelta(days=3), now)


def test_texts_numbers_and_words_are_told_apart_by_how_they_read(key):
    users = ["7", 7, Decimal("7.0"), "seven", True, "true", None, {"a": 1}, [1], ""]
    send(*[event(key, QUARTER, user={"id": user}) for user in users], now=NOW)
    # Had it been there before, intake would have refused objects and lists.
    meter("users", aggregation="unique_count", value_field="user.id")
    fold_all(NOW)
    row = UsageInterval.objects.get(series_id=Series.objects.get(meter__key="users").id)
    # 7, seven, true and the empty text; what is no such value does not feed the meter.
    assert (row.value, row.count) == (4, 7)
    assert UniqueValue.objects.count() == UniqueDayValue.objects.count() == 4


@pytest.mark.parametrize("taken_back", range(5))
def test_a_void_leaves_what_the_other_events_say(key, taken_back):
    meter_of_every_kind()
    send(*[event(key, QUARTER + minutes(n), event_id=f"o-{n}", size=size) for n, size in enumerate(SIZES)], now=NOW)
    fold_all(NOW)
    send(correction(key, f"o-{taken_back}", NOW), now=NOW)
    fold_all(NOW)
    rest = [size for n, size in enumerate(SIZES) if n != taken_back]
    assert values() == values(UsageDay) == expected(rest)
    assert compare_totals() == []


def test_an_amendment_counts_in_place_of_its_event_and_may_be_amended_again(key):
    meter_of_every_kind()
    send(event(key, QUARTER, event_id="o-1", size=9), event(key, QUARTER + minutes(1), size=3), now=NOW)
    fold_all(NOW)
    send(correction(key, "o-1", NOW, event_id="a-1", data={"model": "m-1", "size": 5}), now=NOW)
    fold_all(NOW)
    assert values() == values(UsageDay) == expected([5, 3])
    send(correction(key, "a-1", NOW, event_id="a-2", data={"model": "m-2", "size": 1}), now=NOW)
    fold_all(NOW)
    assert values() == values(UsageDay) == expected([3])
    assert values(model="m-2") == expected([1])
    send(correction(key, "a-2", NOW), now=NOW)
    fold_all(NOW)
    assert values(model="m-2") == values(UsageDay, model="m-2") == {kind: [] for kind in KINDS}
    assert compare_totals() == []


def test_a_correction_folded_with_its_event_counts_once(key):
    meter_of_every_kind()
    send(event(key, QUARTER, event_id="o-1", size=9), event(key, QUARTER + minutes(1), size=3), now=NOW)
    send(correction(key, "o-1", NOW), now=NOW)
    assert fold_all(NOW) == 3
    assert values() == values(UsageDay) == expected([3])
    assert compare_totals() == []


def test_what_is_taken_back_whole_leaves_nothing(key):
    meter_of_every_kind()
    send(event(key, QUARTER, event_id="o-1", size=9), now=NOW)
    fold_all(NOW)
    send(correction(key, "o-1", NOW), now=NOW)
    fold_all(NOW)
    assert (kept(), kept(UsageDay)) == ({}, {})
    assert not UniqueValue.objects.exists()
    assert not UniqueDayValue.objects.exists()


def test_comparing_finds_what_is_wrong_with_each(key, acme):
    meter_of_every_kind()
    send(*[event(key, QUARTER, size=size) for size in SIZES], now=NOW)
    fold_all(NOW)
    UsageInterval.objects.update(latest_at=None)
    UsageDay.objects.update(value=1)
    UniqueValue.objects.filter(digest=UniqueValue.objects.first().digest).delete()
    UniqueDayValue.objects.filter(digest=UniqueDayValue.objects.last().digest).delete()
    assert {one.period for one in compare_totals(acme)} == {"interval", "values", "day", "day values"}
    rebuild_all(NOW)
    assert compare_totals(acme) == []
    assert values() == values(UsageDay)


def test_days_are_made_again_in_another_zone(key, acme, olivia):
    meter_of_every_kind()
    late = datetime(2026, 11, 14, 22, 30, tzinfo=UTC)
    send(*[event(key, late + n * minutes(15), size=size) for n, size in enumerate(SIZES)], now=NOW)
    fold_all(NOW)
    assert values(UsageDay) == expected(SIZES[:2], SIZES[2:])
    update_organisation(acme, actor=olivia, time_zone="America/New_York")
    rebuild_days(acme)
    assert values(UsageDay) == expected(SIZES)
    assert compare_totals() == []


def test_conditions_and_paths_decide_what_a_meter_reads(key):
    conditions = [
        {"field": "call.kind", "operator": "in", "values": ["chat", "7"]},
        {"field": "call.seconds", "operator": "gte", "values": ["1.5"]},
        {"field": "cached", "operator": "absent"},
    ]
    for kind in KINDS:
        fields = {} if kind == "count" else {"value_field": "call.size"}
        meter(f"size_{kind}", aggregation=kind, filters=conditions, **fields)
    calls = [
        ({"kind": "chat", "seconds": 2, "size": 5}, {}),
        ({"kind": 7, "seconds": "1.5", "size": "2"}, {}),
        ({"kind": "chat", "seconds": 1.49, "size": 100}, {}),
        ({"kind": "image", "seconds": 2, "size": 100}, {}),
        ({"kind": "chat", "seconds": 2, "size": 100}, {"cached": False}),
        ({"kind": "chat", "seconds": "soon", "size": 100}, {}),
        ({"kind": "chat", "seconds": 9, "size": 4}, {"cached": None}),
    ]
    send(*[event(key, QUARTER + minutes(n), call=call, **rest) for n, (call, rest) in enumerate(calls)], now=NOW)
    fold_all(NOW)
    assert values() == expected([5, 2, 4])
    assert compare_totals() == []


def test_a_size_decides_which_tier_a_series_is_of(key):
    tiers = {
        "context_tier": {
            "fields": ["input_tokens", "cache_read_tokens"],
            "steps": [{"up_to": "200", "label": "short"}, {"label": "long"}],
        }
    }
    meter("size_sum", dimensions=["model", "call.region"], tiers=tiers)
    sizes = [{"input_tokens": 200}, {"input_tokens": 150, "cache_read_tokens": "50.5"}, {"cache_read_tokens": 7}, {}]
    send(*[event(key, QUARTER, size=1, call={"region": "eu"}, **size) for size in sizes], now=NOW)
    fold_all(NOW)
    labels = sorted((str(row.labels), row.model) for row in Series.objects.filter(meter__key="size_sum"))
    assert labels == [
        ("{'call.region': 'eu', 'context_tier': 'long'}", "m-1"),
        ("{'call.region': 'eu', 'context_tier': 'short'}", "m-1"),
        ("{'call.region': 'eu'}", "m-1"),
    ]
    assert compare_totals() == []


def test_a_revision_holds_from_its_quarter_hour_on(key):
    one = meter("size_sum", dimensions=["model"])
    MeterRevision.objects.create(
        meter=one,
        effective_from=QUARTER,
        dimensions=["region"],
        filters=[{"field": "size", "operator": "gt", "values": ["1"]}],
    )
    for at in (QUARTER - timedelta(microseconds=1), QUARTER):
        send(event(key, at, size=1, region="eu"), event(key, at, size=10, region="eu"), now=NOW)
    fold_all(NOW)
    assert kept() == {("size_sum", "m-1"): [(11, 2)], ("size_sum", ""): [(10, 1)]}
    assert Series.objects.get(meter=one, model="").labels == {"region": "eu"}
    assert compare_totals() == []
