"""What billing rates comes from days where it can; whatever the range, it is what the quarter hours say."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from django.db import connection

from accounts.models import Organisation
from accounts.remembering import remembering
from metering.aggregation.rebuilding import rebuild_days
from metering.models import Series, UsageDay, UsageInterval
from metering.reports import look_up_quantities, quantities
from tests import factories
from tests.metering.usage_world import event, fold_all, send

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
# Summer time ends on 25 October.
MIDNIGHTS = [datetime(2026, 10, day, tzinfo=BERLIN).astimezone(UTC) for day in (20, 23, 26, 29)]
RAGGED = timedelta(hours=7, minutes=15)
RANGES = {
    "whole days": (MIDNIGHTS[0], MIDNIGHTS[-1], []),
    "whole days, split at midnights": (MIDNIGHTS[0], MIDNIGHTS[-1], MIDNIGHTS[1:3]),
    "ragged at both ends": (MIDNIGHTS[0] + RAGGED, MIDNIGHTS[-1] - RAGGED, []),
    "ragged, split at midnights": (MIDNIGHTS[0] + RAGGED, MIDNIGHTS[-1] + RAGGED, MIDNIGHTS[1:]),
    "split off a midnight": (MIDNIGHTS[0], MIDNIGHTS[-1], [MIDNIGHTS[1] + RAGGED]),
    "split at the first midnight": (MIDNIGHTS[1] - RAGGED, MIDNIGHTS[-1], [MIDNIGHTS[1]]),
    "within a day": (MIDNIGHTS[0] + timedelta(hours=1), MIDNIGHTS[0] + RAGGED, []),
    "around one midnight": (MIDNIGHTS[1] - RAGGED, MIDNIGHTS[1] + RAGGED, []),
}


@pytest.fixture
def used(acme, acme_key) -> Organisation:
    """Usage of two models every few hours, in an organisation that keeps Berlin's time."""
    Organisation.objects.filter(pk=acme.pk).update(time_zone="Europe/Berlin", days_zone="Europe/Berlin")
    acme.refresh_from_db()
    subject, at, size = acme_key.api_key.public_id, MIDNIGHTS[0] - timedelta(days=1), 1
    while at < MIDNIGHTS[-1] + timedelta(days=1):
        send(event(subject, at, model=f"m-{size % 2}", input_tokens=size), now=NOW)
        at, size = at + timedelta(hours=3, minutes=45), size + 1
    fold_all(NOW)
    return acme


def from_quarter_hours(organisation, start, end, splits) -> dict[tuple[str, datetime], Decimal]:
    """Tokens and requests together, by model and part."""
    found: dict[tuple[str, datetime], Decimal] = defaultdict(Decimal)
    models = dict(organisation_series(organisation))
    for first, last in pairwise([start, *splits, end]):
        for row in UsageInterval.objects.filter(organisation=organisation, starts_at__gte=first, starts_at__lt=last):
            found[models[row.series_id], first] += row.value
    return dict(found)


def organisation_series(organisation):
    return Series.objects.filter(organisation=organisation).values_list("id", "model")


def by_model(found) -> dict[tuple[str, datetime], Decimal]:
    added: dict[tuple[str, datetime], Decimal] = defaultdict(Decimal)
    for one in found:
        added[one.model, one.start] += one.value
    return dict(added)


@pytest.mark.parametrize("name", RANGES)
def test_days_and_quarter_hours_agree(name, used):
    start, end, splits = RANGES[name]

    found = by_model(quantities(used, start=start, end=end, splits=splits))

    assert found == from_quarter_hours(used, start, end, splits)
    assert found


def test_whole_days_do_not_need_quarter_hours(used):
    start, end, splits = RANGES["whole days"]
    expected = quantities(used, start=start, end=end, splits=splits)
    UsageInterval.objects.filter(organisation=used).delete()

    assert quantities(used, start=start, end=end, splits=splits) == expected


def test_days_that_moved_to_another_zone_meanwhile_are_asked_anew(used):
    start, end, splits = RANGES["whole days, split at midnights"]
    expected = quantities(used, start=start, end=end, splits=splits)
    moved = Organisation.objects.get(pk=used.pk)
    moved.time_zone = "Pacific/Auckland"
    moved.save()
    rebuild_days(moved)
    assert UsageDay.objects.filter(organisation=used).exists()
    assert used.days_zone == "Europe/Berlin"

    assert quantities(used, start=start, end=end, splits=splits) == expected


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("dimensions", [(), ("project",)])
def test_many_organisations_are_looked_up_as_each_by_itself(name, dimensions, used, globex, django_assert_num_queries):
    start, end, splits = RANGES[name]
    key = factories.api_key(globex, "key").api_key
    send(event(key.public_id, MIDNIGHTS[0] + timedelta(hours=4), input_tokens=77), now=NOW)
    send(event(key.public_id, MIDNIGHTS[1] + RAGGED, input_tokens=78), now=NOW)
    fold_all(NOW)
    idle = factories.organisation("Idle", factories.user("idle@idle.example"))
    question = {"start": start, "end": end, "splits": splits, "dimensions": dimensions}
    one_by_one = [quantities(one, **question) for one in (used, globex, idle)]

    with remembering():
        look_up_quantities([used, globex, idle], **question)
        with django_assert_num_queries(0):
            together = [quantities(one, **question) for one in (used, globex, idle)]

    assert together == one_by_one
    assert together[0]
    assert not together[2]
    assert any(one.labels for one in together[0]) == bool(dimensions)


def test_looking_many_up_leaves_the_planner_as_it_was(used, globex):
    start, end, _ = RANGES["whole days"]

    with remembering():
        look_up_quantities([used, globex], start=start, end=end)

    with connection.cursor() as cursor:
        cursor.execute("SHOW enable_indexscan")
        assert cursor.fetchone() == ("on",)


def test_days_of_one_of_many_that_moved_meanwhile_are_asked_anew(used, globex):
    start, end, _ = RANGES["whole days"]
    expected = quantities(used, start=start, end=end)
    loaded = Organisation.objects.get(pk=used.pk)
    Organisation.objects.filter(pk=used.pk).update(time_zone="Asia/Kolkata")
    rebuild_days(Organisation.objects.get(pk=used.pk))

    with remembering():
        look_up_quantities([loaded, globex], start=start, end=end)
        found = quantities(loaded, start=start, end=end)

    assert found == expected
