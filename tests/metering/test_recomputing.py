"""Counters that are wrong are made right from events and holds, whatever goes on meanwhile."""

import json
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.core.management import call_command
from django.utils import timezone

from accounts.models import AuditEntry
from metering.admission import admit, find_hold, release, settle
from metering.models import Hold, QuotaWindow
from metering.recounting import AlreadyRecomputing, compare_counters, recompute_counters
from tests.accounts.threads import at_once
from tests.metering.admission_world import ask, asking, counter, estimate, quota
from tests.metering.usage_world import event, fold_all, send


@pytest.fixture
def now():
    return timezone.now()


@pytest.fixture
def limits(acme, acme_key, now):
    """What tokens, spend and running calls used and hold: 60 and 75."""
    estimate(acme, "output_tokens", "0.01", valid_from=now - timedelta(days=60))
    made = [
        quota(acme, "output_tokens", 100_000, "day", now=now),
        quota(acme, "USD", 1000, now=now),
        quota(acme, "concurrent", 100, now=now),
    ]
    settle(find_hold(ask(acme_key, now=now, output_tokens=75).id), {"output_tokens": Decimal(60)}, now=now)
    ask(acme_key, now=now, output_tokens=75)
    return made


def spoil(*limits):
    for limit in limits:
        QuotaWindow.objects.filter(quota_id=limit.pk).update(used=7, held=3)


def test_wrong_counters_are_made_right_and_put_on_record(limits, acme, olivia, now):
    right = [counter(limit) for limit in limits]
    assert right[:2] == [(60, 75), (Decimal("0.6"), Decimal("0.75"))]
    spoil(*limits)

    found = recompute_counters(acme, now=now, actor=olivia)

    assert [counter(limit) for limit in limits] == right
    assert {one.quota for one in found} == {limit.public_id for limit in limits}
    assert compare_counters(acme, now=now) == []
    entry = AuditEntry.objects.get(action="counters.recomputed")
    assert (entry.organisation, entry.actor, entry.details["counters"]) == (acme, olivia, 3)
    assert entry.details["first"][0]["used"] == ["7", "60"]


def test_a_counter_that_is_missing_is_made_with_its_end(limits, acme, now):
    ends_at = QuotaWindow.objects.get(quota_id=limits[0].pk).ends_at
    QuotaWindow.objects.filter(quota_id=limits[0].pk).delete()

    recompute_counters(acme, now=now, actor="test")

    assert counter(limits[0]) == (60, 75)
    assert QuotaWindow.objects.get(quota_id=limits[0].pk).ends_at == ends_at


def test_a_window_that_began_long_ago_is_compared_while_it_runs(acme, acme_key):
    now = datetime(2026, 11, 27, 12, tzinfo=UTC)
    month = quota(acme, "output_tokens", 100_000, "month", now=now)
    for day in (3, 9, 26):
        send(event(acme_key.api_key.public_id, now.replace(day=day), output_tokens=5), now=now)
    fold_all(now)
    assert counter(month) == (15, 0)
    assert compare_counters(acme, now=now) == []

    spoil(month)
    recompute_counters(acme, now=now, actor="test")

    assert counter(month) == (15, 0)


def test_windows_of_before_a_limit_was_set_are_nobodys_fault(acme, acme_key):
    now = datetime(2026, 11, 27, 12, 0, 30, tzinfo=UTC)
    subject = acme_key.api_key.public_id
    send(event(subject, now - timedelta(minutes=5), output_tokens=5), now=now)
    send(event(subject, now - timedelta(seconds=20), output_tokens=5), now=now)
    fold_all(now)
    limits = [quota(acme, "requests", 100, window, now=now) for window in ("minute", "hour", "billing_period", "none")]
    assert [counter(limit) for limit in limits] == [(1, 0), (1, 0), (2, 0), (2, 0)]
    # What comes late is counted in the window of its time, beside what was never counted there.
    send(event(subject, now - timedelta(minutes=5), output_tokens=5), now=now)
    fold_all(now)

    assert compare_counters(acme, now=now) == []
    assert recompute_counters(acme, now=now + timedelta(hours=3), actor="test") == []
    spoil(*limits)
    assert {one.quota for one in compare_counters(acme, now=now)} == {limit.public_id for limit in limits}


def test_nothing_is_recorded_where_nothing_was_wrong(limits, acme, now):
    assert recompute_counters(acme, now=now, actor="test") == []
    assert not AuditEntry.objects.filter(action="counters.recomputed").exists()


def test_the_command_shows_first_and_mends_when_told_to(limits, acme, capsys):
    spoil(limits[0])

    with pytest.raises(SystemExit):
        call_command("recompute_counters", organisation="acme", json=True)
    shown = json.loads(capsys.readouterr().out)
    assert (shown["recomputed"], shown["differences"]) == (False, 1)
    assert counter(limits[0]) == (7, 3)

    call_command("recompute_counters", organisation="acme", yes=True, json=True)
    done = json.loads(capsys.readouterr().out)
    assert (done["recomputed"], done["items"][0]["used"]) == (True, "60")
    assert counter(limits[0]) == (60, 75)


# --- While calls go on ------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_two_at_once_do_not_add_a_difference_twice(limits, acme, now):
    spoil(*limits)

    done = at_once(*[lambda: recompute_counters(acme, now=now, actor="test")] * 4)

    assert all(isinstance(one, list | AlreadyRecomputing) for one in done)
    assert sum(len(one) for one in done if isinstance(one, list)) == 3
    assert compare_counters(acme, now=now) == []


@pytest.mark.django_db(transaction=True)
def test_counters_come_right_while_calls_are_admitted_settled_and_folded(limits, acme, acme_key, now):
    """The mistake is always seen and mended exactly, whatever happens between looking and mending."""
    ended = threading.Event()

    def calls():
        number = 0
        while not ended.is_set():
            number += 1
            answer = admit(asking(acme_key, f"t-{threading.get_ident()}-{number}", output_tokens=5), now=timezone.now())
            if number % 3 == 0:
                settle(find_hold(answer.id), {"output_tokens": Decimal(4)}, now=timezone.now())
            elif number % 3 == 1:
                release(find_hold(answer.id), now=timezone.now())
            else:
                told = event(acme_key.api_key.public_id, timezone.now(), admission=answer.id, output_tokens=number)
                send(told, now=timezone.now())

    def folds():
        while not ended.is_set():
            fold_all(timezone.now())

    def mends():
        try:
            for _ in range(12):
                QuotaWindow.objects.filter(quota_id=limits[0].pk).update(used=7, held=3)
                found = recompute_counters(acme, now=timezone.now(), actor="test")
                assert limits[0].public_id in {one.quota for one in found}
                assert {one.quota for one in found} == {limits[0].public_id}
        finally:
            ended.set()

    results = at_once(calls, calls, folds, mends)

    assert results == [None] * 4
    fold_all(timezone.now())
    assert compare_counters(acme, now=timezone.now()) == []
    assert Hold.objects.count() > 10


@pytest.mark.django_db(transaction=True)
def test_the_lock_is_let_go_of_when_mending_fails(limits, acme, now, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("metering.recounting._differences", lambda *words: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            recompute_counters(acme, now=now, actor="test")
    other = at_once(lambda: recompute_counters(acme, now=now, actor="test"))
    assert other == [[]]
