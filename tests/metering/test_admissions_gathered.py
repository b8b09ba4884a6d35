"""Concurrent calls gathered from threads: whatever each of them is, it shares a commit and nothing else."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

import psycopg
import pytest
from django.db import DataError, connection, connections, transaction
from django.utils import timezone
from msgspec.structs import replace

from accounts.gathering import Gathering
from accounts.tokens import revoke_token
from metering.admission import TokenEnded, admit, deciding
from metering.admission.settling import Change, change_counters
from metering.models import Denial, Hold, QuotaWindow
from metering.recounting import compare_counters
from tests import factories
from tests.metering.admission_world import ask, asking, counter, quota

pytestmark = pytest.mark.django_db(transaction=True)

type Call = Callable[[], Any]


@pytest.fixture
def now() -> datetime:
    return timezone.now()


@pytest.fixture
def globex_key(globex):
    return factories.api_key(globex)


@pytest.fixture
def session() -> Iterator["psycopg.Connection[Any]"]:
    """Another client of the database."""
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None}) as session:
        yield session


@pytest.fixture
def in_one_group(session, olivia, now, monkeypatch) -> Callable[..., list[Any]]:
    """Run calls that each ask for one admission so that all are decided together; their answers or errors."""

    def run(*calls: Call) -> list[Any]:
        key = factories.api_key(factories.organisation("Whose call comes first", olivia))
        monkeypatch.setattr(deciding, "LONGEST_WAIT", "20s")
        gathering = Gathering[Any, Any](deciding._decide_what_can_be)
        monkeypatch.setattr(deciding, "_decide_together", gathering)
        session.execute("LOCK TABLE hold IN EXCLUSIVE MODE")
        with ThreadPoolExecutor(len(calls) + 1) as pool, closing(session):
            first = pool.submit(on_its_own, lambda: ask(key, now=now, call_id="leads"))
            until(lambda: gathering._under_way == 1)
            others = []
            for number, call in enumerate(calls, start=1):
                others.append(pool.submit(on_its_own, call))
                until(lambda number=number: len(gathering._waiting) == number)
            session.commit()
            assert first.result(20).is_allowed
            return [other.exception(20) or other.result() for other in others]

    return run


def on_its_own(call: Call) -> Any:
    try:
        return call()
    finally:
        connections.close_all()


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def transactions() -> int:
    """In how many the holds were written, but for the one of the call that led the first group."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(DISTINCT xmin::text) FROM hold WHERE call_id <> 'leads'")
        return int(cursor.fetchone()[0])


def test_calls_of_the_same_moment_are_one_commit_and_each_is_judged_after_those_before_it(
    acme, acme_key, globex, globex_key, in_one_group, now
):
    limit = quota(acme, "output_tokens", 500, "day", now=now)
    others = quota(globex, "output_tokens", 100, "day", now=now)
    calls = [partial(ask, acme_key, now=now, output_tokens=75) for _ in range(10)]
    calls += [partial(ask, globex_key, now=now, output_tokens=60) for _ in range(2)]

    answers = in_one_group(*calls)

    assert [answer.is_allowed for answer in answers] == [True] * 6 + [False] * 4 + [True, False]
    assert [answer.limits[0].held for answer in answers[:7]] == [75, 150, 225, 300, 375, 450, 450]
    assert transactions() == 1
    assert (counter(limit), counter(others)) == ((0, 450), (0, 60))
    assert sum(Denial.objects.values_list("count", flat=True)) == 5
    assert compare_counters(acme, now=now) == compare_counters(globex, now=now) == []


def test_unknown_keys_and_dead_tokens_are_refused_alone(acme, acme_key, service_token, in_one_group, now):
    limit = quota(acme, "output_tokens", 500, "day", now=now)
    live, dead = service_token.token, factories.service_token("Dead").token
    revoke_token(dead, actor="test")
    call = asking(acme_key, output_tokens=75)

    unknown, refused, allowed = in_one_group(
        lambda: admit(replace(call, call_id="unknown", key_digest="0" * 64), now=now, service_token_id=live.pk),
        lambda: admit(replace(call, call_id="dead token"), now=now, service_token_id=dead.pk),
        lambda: admit(call, now=now, service_token_id=live.pk),
    )

    assert unknown.refusal.code == "key_unknown"
    assert isinstance(refused, TokenEnded)
    assert allowed.is_allowed
    assert counter(limit) == (0, 75)


def test_the_same_call_in_one_group_holds_once_and_another_organisations_call_of_that_name_is_another(
    acme, acme_key, globex_key, in_one_group, now
):
    limit = quota(acme, "output_tokens", 500, "day", now=now)
    calls = [partial(ask, key, now=now, call_id="same", output_tokens=75) for key in [acme_key] * 3 + [globex_key]]

    *mine, theirs = in_one_group(*calls)

    assert len({answer.id for answer in mine}) == 1
    assert theirs.is_allowed
    assert theirs.id != mine[0].id
    assert counter(limit) == (0, 75)
    assert Hold.objects.filter(call_id="same").count() == 2


@pytest.mark.parametrize("broken", [{"model": "no\0text"}, {"estimate": {"no\0text": Decimal(1)}}])
def test_a_call_that_the_database_cannot_take_fails_alone(acme, acme_key, in_one_group, now, broken):
    limit = quota(acme, "output_tokens", 500, "day", now=now)

    one, failure, other = in_one_group(
        partial(ask, acme_key, now=now, output_tokens=75),
        partial(ask, acme_key, now=now, **broken),
        partial(ask, acme_key, now=now, output_tokens=75),
    )

    assert (one.is_allowed, other.is_allowed) == (True, True)
    assert isinstance(failure, DataError)
    assert counter(limit) == (0, 150)
    assert compare_counters(acme, now=now) == []


def test_a_counter_that_is_new_is_made_in_the_order_in_which_counters_are_locked(acme, acme_key, now, monkeypatch):
    """Else folding, which holds the first counter and comes to the second, would wait in a circle."""
    monkeypatch.setattr(deciding, "LONGEST_WAIT", "20s")
    old, new = [quota(acme, "output_tokens", 500, window, now=now) for window in ("none", "day")]
    ask(acme_key, now=now, output_tokens=75)
    first, second = QuotaWindow.objects.order_by("quota_id")
    place, new_place = [(acme.pk, row.quota_id, row.subject, row.starts_at) for row in (first, second)]
    second.delete()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            change_counters({place: Change(used=Decimal(10))})
            waiting = pool.submit(on_its_own, partial(ask, acme_key, now=now, output_tokens=75))
            until(somebody_waits_for_us)
            _wait_no_longer_than("300ms")
            change_counters({new_place: Change(used=Decimal(10), ends_at=second.ends_at)})
        assert waiting.result(20).is_allowed

    assert counter(old) == (10, 150)
    assert counter(new) == (10, 75)


def somebody_waits_for_us() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid)))")
        return bool(cursor.fetchone()[0])


def _wait_no_longer_than(duration: str) -> None:
    """Less than PostgreSQL takes to find a circle."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [duration])
