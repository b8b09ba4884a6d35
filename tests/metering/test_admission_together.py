"""Calls that are decided together: each is judged after the ones before it, and none suffers from another."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection, transaction

from accounts.credentials import digest_of
from metering.admission import admit, admit_all, deciding, release
from metering.models import Denial, Hold, QuotaWindow
from metering.recounting import compare_counters
from tests import factories
from tests.accounts.threads import at_once
from tests.metering.admission_world import asking, counter, hold_of, quota

NOW = datetime(2026, 11, 15, 12, 0, 30, tzinfo=UTC)
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def limit(acme):
    return quota(acme, "output_tokens", 200, "day", now=NOW)


@pytest.fixture
def globex_key(globex):
    return factories.api_key(globex)


def wait_until(is_so):
    for _ in range(1000):
        if is_so():
            return
        time.sleep(0.01)
    raise AssertionError("It never came to be so.")


def test_each_call_is_judged_after_the_ones_before_it(acme, acme_key, limit):
    wanted = (75, 75, 75, 50, 1)

    answers = admit_all([asking(acme_key, output_tokens=units) for units in wanted], now=NOW)

    assert [answer.is_allowed for answer in answers] == [True, True, False, True, False]
    assert [answer.limits[0].held for answer in answers] == [75, 150, 150, 200, 200]
    assert counter(limit) == (0, 200)
    assert compare_counters(acme, now=NOW) == []


def test_each_gets_its_own_answer(acme, acme_key, globex, globex_key, limit):
    other = quota(globex, "requests", 1, "day", now=NOW)
    stranger = factories.KeyWithSecret(acme_key.api_key, "sk-kt-nobody", digest_of("sk-kt-nobody"))
    acme_key.api_key.allowed_models = ["m-*"]
    acme_key.api_key.save()

    answers = admit_all(
        [
            asking(stranger, "a", output_tokens=1),
            asking(acme_key, "b", output_tokens=150),
            asking(globex_key, "b", output_tokens=9000),
            asking(acme_key, "c", model="x-1", output_tokens=1),
            asking(globex_key, "d", output_tokens=1),
            asking(acme_key, "e", output_tokens=51),
            asking(acme_key, "f", output_tokens=50),
        ],
        now=NOW,
    )

    reasons = [answer.refusal and answer.refusal.code for answer in answers]
    assert reasons == ["key_unknown", None, None, "model_not_allowed", "quota_exceeded", "quota_exceeded", None]
    assert [answer.call_id for answer in answers] == ["a", "b", "b", "c", "d", "e", "f"]
    assert (counter(limit), counter(other)) == ((0, 200), (0, 1))
    assert Denial.objects.count() == 3
    assert hold_of(answers[1]).amounts == [Decimal(150)]
    assert hold_of(answers[2]).organisation_id == globex.pk


def test_a_call_that_is_asked_about_twice_holds_once(acme_key, limit):
    first = admit(asking(acme_key, "known", output_tokens=75), now=NOW)
    ended = admit(asking(acme_key, "ended", output_tokens=75), now=NOW)
    release(hold_of(ended), now=NOW)

    answers = admit_all(
        [asking(acme_key, call, output_tokens=75) for call in ("known", "new", "new", "ended")], now=NOW
    )

    assert answers[0].id == first.id
    assert answers[1].id == answers[2].id != first.id
    assert answers[3].refusal is not None
    assert answers[3].refusal.code == "call_ended"
    assert counter(limit) == (0, 150)


def test_a_known_call_is_let_through_though_its_limit_is_full_by_now(acme_key, limit):
    first = admit(asking(acme_key, "known", output_tokens=150), now=NOW)
    admit(asking(acme_key, "another", output_tokens=50), now=NOW)

    again = admit(asking(acme_key, "known", output_tokens=150), now=NOW)

    assert again.id == first.id
    assert counter(limit) == (0, 200)


def test_a_call_that_cannot_be_stored_harms_no_other(acme_key, limit):
    calls = [asking(acme_key, model="\x00" if n == 3 else "m-1", output_tokens=20) for n in range(8)]

    answers = at_once(*(lambda call=call: admit(call, now=NOW) for call in calls))

    assert [n for n, answer in enumerate(answers) if isinstance(answer, Exception)] == [3]
    assert Hold.objects.count() == 7
    assert counter(limit) == (0, 140)


def test_calls_that_come_while_one_is_under_way_share_a_transaction(acme_key, limit, monkeypatch):
    monkeypatch.setattr(deciding, "LONGEST_WAIT", "10s")
    admit(asking(acme_key, output_tokens=1), now=NOW)
    with ThreadPoolExecutor(6) as threads:
        with transaction.atomic():
            QuotaWindow.objects.select_for_update().get(quota_id=limit.pk)
            asked = [threads.submit(_admitted, acme_key) for _ in range(6)]
            wait_until(lambda: len(deciding._decide_together._waiting) == 4)
        assert all(one.result(timeout=10).is_allowed for one in asked)

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM hold GROUP BY xmin::text ORDER BY 1")
        assert cursor.fetchall() == [(1,), (1,), (1,), (4,)]


def test_a_counter_that_somebody_holds_up_holds_up_its_own_calls_only(acme_key, globex, globex_key, limit):
    quota(globex, "requests", 10, "day", now=NOW)
    admit(asking(acme_key, output_tokens=1), now=NOW)
    with ThreadPoolExecutor(6) as threads:
        with transaction.atomic():
            QuotaWindow.objects.select_for_update().get(quota_id=limit.pk)
            held_up = [threads.submit(_admitted, acme_key) for _ in range(3)]
            others = [threads.submit(_admitted, globex_key) for _ in range(3)]
            assert all(one.result(timeout=10).is_allowed for one in others)
            assert not any(one.done() for one in held_up)
        assert all(one.result(timeout=10).is_allowed for one in held_up)

    assert counter(limit) == (0, 4)


def _admitted(key):
    try:
        return admit(asking(key, output_tokens=1), now=NOW)
    finally:
        connection.close()


def test_two_processes_with_crossed_calls_do_not_wait_in_a_circle(acme, acme_key, globex, globex_key, limit):
    other = quota(globex, "output_tokens", 10_000, "day", now=NOW)
    quota(acme, "requests", 10_000, "minute", now=NOW)

    def ask(name, keys):
        answers = []
        for n in range(15):
            calls = [asking(key, f"{name}-{n}", output_tokens=1) for key in keys]
            answers += admit_all(calls, now=NOW + timedelta(minutes=n))
        return answers

    one, two = at_once(lambda: ask("one", [acme_key, globex_key]), lambda: ask("two", [globex_key, acme_key]))

    assert len(one + two) == 60
    assert all(answer.is_allowed for answer in one + two)
    assert (counter(limit)[1], counter(other)[1]) == (30, 30)
