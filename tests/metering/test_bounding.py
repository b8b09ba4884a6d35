"""A label with ever new values: bounded, summed exactly, and seen."""

from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse

from metering.aggregation import compare_totals, rebuild_totals
from metering.bounding import bound_series
from metering.models import Series, SeriesLimit
from metering.reports import UsageFilter, usage
from metering.tasks import fold_pending_batches
from tests.metering.meters_world import meter
from tests.metering.usage_world import event, fold_all, send

pytestmark = pytest.mark.django_db

HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
NOW = HOUR + timedelta(minutes=7)
OLDER = NOW - timedelta(minutes=30)


@pytest.fixture(autouse=True)
def _few(settings):
    settings.SERIES_PER_MONTH = 5


def use(organisation, *, at, names, model="m-1", size=1):
    send(*[event(organisation.public_id, at, model=model, end_user=name, size=size) for name in names], now=NOW)
    fold_all(NOW)


def by_user(organisation, key="sizes", group_by=("end_user", "model")):
    span = {"start": HOUR - timedelta(days=40), "end": HOUR + timedelta(hours=2), "granularity": "total"}
    report = usage(organisation, **span, group_by=group_by, filters=UsageFilter(meters=(key,)))
    return {row.group: row.value for row in report.rows}


def test_past_the_bound_labels_read_other_and_sums_stay_exact(acme, globex):
    meter("sizes", dimensions=["model", "end_user"])
    meter("users", aggregation="unique_count", value_field="end_user", dimensions=["model", "end_user"])
    use(acme, at=OLDER, names=["a", "b", "c"])
    use(acme, at=NOW, names=["a", "d", "e", "f"])
    use(globex, at=NOW, names=["a", "b"])
    assert {limit.meter.key for limit in bound_series(NOW)} == {"sizes", "users"}
    assert bound_series(NOW) == []
    use(acme, at=NOW, names=["g", "h", "a"], model="m-2")
    assert by_user(acme) == {
        ("a", "m-1"): 1,
        ("b", "m-1"): 1,
        ("c", "m-1"): 1,
        ("(other)", "m-1"): 4,
        ("(other)", "m-2"): 3,
    }
    assert by_user(acme, "users", ()) == {(): 8}
    assert by_user(globex) == {("a", "m-1"): 1, ("b", "m-1"): 1}
    assert compare_totals() == []
    rebuild_totals(acme, HOUR - timedelta(hours=3), HOUR + timedelta(hours=1))
    assert compare_totals() == []
    assert by_user(acme)["(other)", "m-1"] == 4


def test_events_of_before_keep_their_labels(acme):
    meter("sizes", dimensions=["model", "end_user"])
    use(acme, at=NOW, names="abcdef")
    bound_series(NOW)
    use(acme, at=OLDER, names=["late"])
    assert by_user(acme)["late", "m-1"] == 1
    assert compare_totals() == []


def test_a_meter_without_other_labels_gives_up_its_model(acme):
    meter("sizes", dimensions=["model"])
    for number in range(7):
        use(acme, at=NOW, names=["a"], model=f"m-{number}")
    bound_series(NOW)
    use(acme, at=NOW, names=["a"], model="m-99")
    assert by_user(acme, group_by=("model",)) == {("(other)",): 8}
    assert compare_totals() == []


def test_series_stop_growing(acme):
    meter("sizes", dimensions=["model", "end_user", "region"])
    use(acme, at=NOW, names="abcdef")
    bound_series(NOW)
    before = Series.objects.filter(meter__key="sizes").count()
    use(acme, at=NOW, names=[f"user-{number}" for number in range(50)])
    assert Series.objects.filter(meter__key="sizes").count() == before


def test_operators_and_customers_see_it(acme, client_for, operator, vera):
    meter("sizes", dimensions=["model", "end_user"])
    use(acme, at=NOW, names="abcdef")
    bound_series(NOW)
    shown = client_for(operator).get(reverse("admin:metering_serieslimit_changelist")).content.decode()
    assert "sizes" in shown
    page = client_for(vera).get(reverse("metering:usage", args=["acme"]), {"measure": "sizes", "group": "end_user"})
    assert "Too many different values" in page.content.decode()
    other = client_for(vera).get(reverse("metering:usage", args=["acme"]), {"measure": "requests"})
    assert "Too many different values" not in other.content.decode()
    assert SeriesLimit.objects.get().series == 6


def test_a_flood_is_bounded_right_after_the_fold_that_brought_it(acme, settings, time_machine):
    time_machine.move_to(NOW, tick=False)
    settings.SERIES_PER_MONTH = 40
    meter("sizes", dimensions=["model", "end_user"])
    meter("users", aggregation="unique_count", value_field="end_user", dimensions=["model", "end_user"])
    send(*[event(acme.public_id, NOW, end_user=f"u-{n}", size=1) for n in range(39)], now=NOW)
    fold_pending_batches()
    assert not SeriesLimit.objects.exists()
    send(*[event(acme.public_id, NOW, end_user=f"v-{n}", size=1) for n in range(3)], now=NOW)
    fold_pending_batches()
    assert {limit.meter.key for limit in SeriesLimit.objects.all()} == {"sizes", "users"}
    assert by_user(acme) == {("(other)", "m-1"): 42}
    assert compare_totals() == []


def test_a_trickle_is_left_to_the_sweep(acme, settings):
    settings.SERIES_PER_MONTH = 40
    meter("sizes", dimensions=["model", "end_user"])
    for number in range(42):
        send(event(acme.public_id, NOW, end_user=f"u-{number}", size=1), now=NOW)
        fold_pending_batches()
    assert not SeriesLimit.objects.exists()
    assert len(bound_series(NOW)) == 1
