"""Holds and counters of long ago are forgotten, and the comparison of counters stays right."""

from datetime import timedelta
from decimal import Decimal

import pytest

from metering.admission import admit, expire_holds, find_hold, release, settle
from metering.models import DroppedMonth, Hold, PrunedHoldEvent, QuotaWindow
from metering.pruning import kept_since, prune, prune_before
from metering.recounting import compare_counters
from metering.tasks import prune_holds
from tests.metering.admission_world import ask, asking, counter, estimate, quota
from tests.metering.conftest import NOW
from tests.metering.usage_world import correction, event, fold_all, send

DAY = timedelta(days=1)
MUCH_LATER = NOW + 60 * DAY


@pytest.fixture
def lasting(acme, acme_key):
    """Tokens and spend without an end, and calls of long ago that ended in every way."""
    estimate(acme, "output_tokens", "0.01", valid_from=NOW - 60 * DAY)
    limits = [quota(acme, "output_tokens", 10_000, now=NOW), quota(acme, "USD", 1000, now=NOW)]
    quota(acme, "concurrent", 10, now=NOW)
    quota(acme, "output_tokens", 5_000, "minute", now=NOW)
    by_event, by_hand, late, unused, both = (ask(acme_key, now=NOW, output_tokens=75).id for _ in range(5))
    subject = acme_key.api_key.public_id
    settle(find_hold(by_hand), {"output_tokens": Decimal(20)}, now=NOW)
    settle(find_hold(both), {"output_tokens": Decimal(30)}, now=NOW)
    release(find_hold(unused), now=NOW)
    expire_holds(NOW + timedelta(minutes=30))
    for name, units in ((by_event, 60), (late, 70), (both, 44)):
        send(event(subject, NOW, event_id=f"of {name}", admission=name, output_tokens=units), now=NOW)
    send(event(subject, NOW, output_tokens=5), now=NOW)
    fold_all(NOW)
    send(correction(subject, f"of {late}", NOW), now=NOW)
    fold_all(NOW)
    return limits


def test_what_ended_long_ago_goes_and_what_runs_stays(acme, acme_key):
    limit = quota(acme, "output_tokens", 10_000, "day", now=NOW)
    settle(find_hold(ask(acme_key, now=NOW, output_tokens=75).id), {"output_tokens": Decimal(7)}, now=NOW)
    running = ask(acme_key, now=NOW, output_tokens=75)
    recent = ask(acme_key, now=MUCH_LATER - 30 * DAY, output_tokens=75)
    release(find_hold(recent.id), now=MUCH_LATER - 30 * DAY)

    done = prune(MUCH_LATER)

    assert (done.holds, done.counters, done.is_finished) == (1, 0, True)
    assert {hold.id for hold in Hold.objects.all()} == {running.id, recent.id}
    assert QuotaWindow.objects.filter(quota_id=limit.pk).count() == 2

    release(find_hold(running.id), now=MUCH_LATER - 50 * DAY)
    assert prune(MUCH_LATER) == type(done)(1, 1, is_finished=True)
    assert [row.starts_at for row in QuotaWindow.objects.all()] == [recent.limits[0].resets_at - DAY]


def test_a_late_event_still_finds_the_hold_it_names_however_short_the_policy(settings):
    settings.HOLDS_KEPT_DAYS = 1
    assert kept_since(NOW) <= NOW - timedelta(days=settings.LATE_WINDOW_DAYS) - DAY


def test_nothing_is_pruned_where_all_is_kept_for_ever(lasting, settings):
    settings.HOLDS_KEPT_DAYS = 0
    assert prune(MUCH_LATER).holds == 0
    assert Hold.objects.count() == 5


def test_counters_that_never_reset_are_compared_exactly_after_pruning(lasting, acme, acme_key):
    before = [counter(limit) for limit in lasting]
    assert before[0] == (60 + 20 + 30 + 5, 0)

    assert prune(MUCH_LATER).holds == 5

    assert [counter(limit) for limit in lasting] == before
    assert compare_counters(acme, now=MUCH_LATER) == []
    ask(acme_key, now=MUCH_LATER, output_tokens=75)
    send(event(acme_key.api_key.public_id, MUCH_LATER, output_tokens=9), now=MUCH_LATER)
    fold_all(MUCH_LATER)
    assert compare_counters(acme, now=MUCH_LATER) == []

    QuotaWindow.objects.filter(quota_id=lasting[0].pk).update(used=7)
    [found] = compare_counters(acme, now=MUCH_LATER)
    assert (found.used, found.held) == (124, 75)


def test_a_wide_comparison_begins_where_holds_are_kept(acme, acme_key):
    quota(acme, "output_tokens", 10_000, "day", now=NOW)
    quota(acme, "output_tokens", 10_000, "month", now=NOW)
    hold = find_hold(ask(acme_key, now=NOW, output_tokens=75).id)
    settle(hold, {"output_tokens": Decimal(7)}, now=NOW)
    prune_before(NOW + timedelta(hours=1))

    assert compare_counters(acme, now=NOW, since=NOW - 30 * DAY) == []


def test_once_events_were_dropped_only_what_is_held_is_compared(lasting, acme, acme_key):
    prune_before(NOW + timedelta(hours=1))
    assert PrunedHoldEvent.objects.count() == 3
    DroppedMonth.objects.create(
        month=NOW.date().replace(day=1), event_count=4, last_time=NOW, started_at=NOW, dropped_at=NOW
    )
    prune(MUCH_LATER)
    assert PrunedHoldEvent.objects.count() == 0

    QuotaWindow.objects.filter(quota_id=lasting[0].pk).update(used=7)
    assert compare_counters(acme, now=MUCH_LATER) == []
    QuotaWindow.objects.filter(quota_id=lasting[0].pk).update(held=3)
    [found] = compare_counters(acme, now=MUCH_LATER)
    assert (found.stored_held, found.held) == (3, 0)


def test_pruning_stops_after_so_many_batches_and_goes_on(lasting, monkeypatch):
    monkeypatch.setattr("metering.pruning.BATCH", 2)
    first = prune(MUCH_LATER, batches=2)
    assert (first.holds, first.is_finished) == (4, False)
    assert prune(MUCH_LATER).holds == 1


def test_the_id_of_a_call_may_be_used_again_once_its_hold_is_forgotten(lasting, acme_key):
    name = Hold.objects.first().call_id
    assert admit(asking(acme_key, name, output_tokens=1), now=NOW).refusal.code == "call_ended"
    prune(MUCH_LATER)
    assert admit(asking(acme_key, name, output_tokens=1), now=MUCH_LATER).is_allowed


def test_the_sweep_goes_by_the_policy(lasting):
    Hold.objects.update(created_at=NOW - 400 * DAY, ended_at=NOW - 400 * DAY)
    prune_holds()
    assert not Hold.objects.exists()
