"""Every aggregation at every granularity and grouping, against plain Python over the events themselves."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import groupby

import pytest

from metering.aggregation import compare_totals, fold_pending
from metering.buckets import GRANULARITIES, bucket_of, midnight
from metering.event_quantities import event_period_values, event_quantities
from metering.exact import average
from metering.identity import event_key
from metering.models import Meter
from metering.reports import UsageFilter, period_values, quantities, usage
from tests import factories
from tests.metering.meters_world import KINDS, figure, meter, meter_of_every_kind
from tests.metering.usage_world import correction, event, fold_all, send

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)
LABEL = "call.region"


@pytest.fixture
def events(acme, acme_key):
    """Sixty events over a week that has a change of the clocks in it, of which one is voided and one amended."""
    meter_of_every_kind(dimensions=["model", LABEL])
    start = midnight(datetime(2026, 10, 22, tzinfo=UTC).date(), acme.zone)
    sent = []
    for n in range(60):
        at = start + n * timedelta(hours=2, minutes=47)
        call = {"region": "eu" if n % 4 else "us"}
        subject = acme_key.api_key.public_id
        sent.append(event(subject, at, event_id=f"o-{n}", model=f"m-{n % 3}", call=call, size=n * 7 % 11))
    send(*sent[::2], now=NOW)
    fold_all(NOW)
    send(*sent[1::2], now=NOW)
    amended = {"model": "m-1", "size": "99.5", "call": {"region": "us"}}
    send(correction(subject, "o-20", NOW), correction(subject, "o-30", NOW, event_id="a", data=amended), now=NOW)
    fold_all(NOW)
    there = [one for one in sent if one.event_id not in {"o-20", "o-30"}]
    there.append(event(subject, sent[30].time, event_id="a", model="m-1", call={"region": "us"}, size=Decimal("99.5")))
    return start, sorted(there, key=lambda one: (one.time, event_key(one.source, one.event_id)))


def figures(events, kind, place_of):
    """Place -> what the events there come to."""
    found = {}
    for one in events:
        found.setdefault(place_of(one), []).append(Decimal(one.data["size"]))
    whole = {place: figure(kind, sizes) for place, sizes in found.items()}
    return {place: average(value, len(found[place])) if kind == "average" else value for place, value in whole.items()}


@pytest.mark.parametrize("days_serve", [True, False])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_every_granularity_and_grouping_is_exact(events, acme, granularity, days_serve):
    start, there = events
    if not days_serve:
        acme.days_zone = "Pacific/Chatham"
    end = start + timedelta(days=30, hours=1)

    def bucket(one):
        return start if granularity == "total" else bucket_of(one.time, granularity, acme.zone)

    groupings = {
        (): lambda one: (),
        ("model",): lambda one: (one.data["model"],),
        (LABEL, "model"): lambda one: (one.data["call"]["region"], one.data["model"]),
    }
    for group_by, places in groupings.items():
        report = usage(acme, start=start, end=end, granularity=granularity, group_by=("meter", *group_by))
        for kind in KINDS:
            rows = {(row.start, row.group[1:]): row.value for row in report.rows if row.group[0] == f"size_{kind}"}
            wanted = figures(there, kind, lambda one, places=places: (bucket(one), places(one)))
            # The range begins with its first bucket.
            assert {(max(at, start), group): value for (at, group), value in rows.items()} == {
                (max(at, start), group): value for (at, group), value in wanted.items()
            }


def test_one_meter_that_is_no_sum_can_be_reported_without_its_name(events, acme):
    start, there = events
    for kind in KINDS:
        report = usage(
            acme,
            start=start,
            end=start + timedelta(days=30),
            granularity="total",
            group_by=("model",),
            filters=UsageFilter(meters=(f"size_{kind}",), models=("m-1",), labels={LABEL: "eu"}),
        )
        wanted = [one for one in there if one.data["model"] == "m-1" and one.data["call"]["region"] == "eu"]
        assert [(row.group, row.value, row.count) for row in report.rows] == [
            (("m-1",), figures(wanted, kind, lambda one: 1)[1], len(wanted))
        ]


def test_rows_of_different_aggregations_come_in_the_order_of_time(events, acme):
    start, _ = events
    report = usage(acme, start=start, end=start + timedelta(days=30), granularity="day")
    assert [at for at, _ in groupby(row.start for row in report.rows)] == sorted({row.start for row in report.rows})


def test_a_period_has_one_value_of_what_is_no_sum_and_events_say_the_same(events, acme):
    start, there = events
    end = start + timedelta(days=3)
    inside = [one for one in there if start <= one.time < end]
    found = period_values(acme, start=start, end=end)
    wanted = {f"size_{kind}": figures(inside, kind, lambda one: 1)[1] for kind in set(KINDS) - {"sum", "count"}}
    assert {(one.meter_key, one.model, one.start, one.end): one.value for one in found} == {
        (key, "", start, end): value for key, value in wanted.items()
    }
    again = event_period_values(acme, start=start, end=end, received_by=NOW)
    assert sorted(again, key=str) == sorted(found, key=str)


def test_a_bill_has_none_of_them_where_no_such_meter_is_defined(acme):
    assert period_values(acme, start=NOW - timedelta(days=1), end=NOW) == []


def test_quantities_are_kept_apart_by_labels_and_projects_as_asked(acme):
    meter("sizes", dimensions=["model", "service_tier"])
    other = factories.project(acme, "Second")
    keys = [factories.api_key(acme), factories.api_key(acme, "Other", project=other)]
    at = NOW - timedelta(hours=1)
    for place, key in enumerate(keys):
        subject = key.api_key.public_id
        send(event(subject, at, size=10**place, service_tier="batch"), event(subject, at, size=3 * 10**place), now=NOW)
    fold_pending(now=NOW)
    span = {"start": NOW - timedelta(days=1), "end": NOW}

    def found(*dimensions):
        rows = quantities(acme, **span, dimensions=dimensions)
        checked = event_quantities(acme, **span, splits=(), received_by=NOW, dimensions=dimensions)
        assert rows == checked
        return {tuple(sorted(one.labels.items())): one.value for one in rows if one.meter_key == "sizes"}

    projects = [factories.default_project(acme).public_id, other.public_id]
    assert found() == {(): 44}
    assert found("service_tier") == {(("service_tier", "batch"),): 11, (): 33}
    assert found("project", "service_tier") == {
        (("project", projects[0]), ("service_tier", "batch")): 1,
        (("project", projects[0]),): 3,
        (("project", projects[1]), ("service_tier", "batch")): 10,
        (("project", projects[1]),): 30,
    }


def test_a_meter_says_whether_its_totals_may_be_added(db):
    meter_of_every_kind()
    additive = {one.aggregation for one in Meter.objects.filter(key__startswith="size_") if one.is_additive}
    assert additive == {"sum", "count"}


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("Asia/Kathmandu", date(2026, 10, 25)),
        ("Pacific/Chatham", date(2026, 9, 27)),
        ("Australia/Lord_Howe", date(2026, 10, 4)),
        ("Europe/Berlin", date(2026, 10, 25)),
        ("America/St_Johns", date(2026, 11, 1)),
    ],
)
def test_days_of_every_aggregation_begin_and_end_to_the_microsecond(olivia, zone, day):
    far_away = factories.organisation("Far away", olivia, time_zone=zone)
    meter_of_every_kind(dimensions=[])
    start, end = (midnight(one, far_away.zone) for one in (day, day + timedelta(days=1)))
    tick = timedelta(microseconds=1)
    sizes = {start - tick: 50, start: 3, start + (end - start) / 2: 8, end - tick: 3, end: 70}
    for at, size in reversed(sizes.items()):
        send(event(far_away.public_id, at, size=size), now=NOW)
        fold_all(NOW)
    inside = [Decimal(size) for at, size in sizes.items() if start <= at < end]
    for stored_zone in (zone, "UTC"):
        far_away.days_zone = stored_zone  # days serve, or they do not
        for granularity in ("day", "total"):
            report = usage(far_away, start=start, end=end, granularity=granularity)
            found = {row.group[0]: row.value for row in report.rows if row.group[0].startswith("size_")}
            whole = {kind: figure(kind, inside) for kind in KINDS} | {"average": average(sum(inside), len(inside))}
            assert found == {f"size_{kind}": value for kind, value in whole.items()}
    assert compare_totals(far_away) == []
