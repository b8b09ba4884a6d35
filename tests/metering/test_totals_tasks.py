from datetime import UTC, datetime
from decimal import Decimal

import pytest

from accounts.organisations import update_organisation
from metering import tasks
from metering.models import IngestBatch, TotalsCheck, UsageDay, UsageInterval
from metering.partitions import ensure_event_partitions
from tests.metering.usage_world import event, send

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)


@pytest.fixture
def used(acme_key):
    for hour in (9, 10, 23):
        send(event(acme_key.api_key.public_id, NOW.replace(day=14, hour=hour), input_tokens=10), now=NOW)


def test_folding_task_leaves_nothing_pending(used):
    tasks.fold_pending_batches()
    assert IngestBatch.objects.pending().count() == 0
    tasks.fold_pending_batches()
    assert UsageInterval.objects.filter(value=10).count() == 3


def test_check_is_kept_with_what_it_found(used):
    tasks.fold_pending_batches()
    tasks.compare_totals()
    assert TotalsCheck.objects.get().differences == 0
    UsageInterval.objects.filter(value=10).update(value=Decimal("10.5"))
    tasks.compare_totals()
    check = TotalsCheck.objects.first()
    # Three quarter hours, and the two days that they make up.
    assert check.differences == 5
    assert {(one["period"], one["expected_value"], one["value"]) for one in check.detail} == {
        ("interval", "10", "10.5"),
        ("day", "21.0", "20"),
        ("day", "10.5", "10"),
    }


def test_days_move_with_the_zone(used, acme, olivia):
    tasks.fold_pending_batches()
    assert {row.day.day for row in UsageDay.objects.all()} == {14, 15}
    update_organisation(acme, actor=olivia, time_zone="America/Los_Angeles")
    tasks.rebuild_moved_days()
    assert {row.day.day for row in UsageDay.objects.all()} == {14}


def test_partitions_of_the_coming_months_are_made_ahead(db):
    tasks.create_event_partitions()
    assert ensure_event_partitions() == []
