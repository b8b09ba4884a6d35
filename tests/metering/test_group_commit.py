"""Small requests of the same moment share a statement and a commit, and nothing else."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
from django.db import connection, connections
from django.utils import timezone

from accounts.problems import Problem
from metering import group_commit
from metering.identity import event_key
from metering.intake import accept
from metering.models import Event, IngestBatch, RejectedEvent
from tests import factories
from tests.metering.conftest import NOW, take

pytestmark = pytest.mark.django_db(transaction=True)

type Call = Callable[[], Any]


@pytest.fixture
def session() -> Iterator["psycopg.Connection[Any]"]:
    """Another client of the database."""
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None}) as session:
        yield session


@pytest.fixture
def in_one_group(session, draft, monkeypatch) -> Callable[..., list[Any]]:
    """Run calls that each take one small request so that one statement stores them all; their results or errors."""

    def run(*calls: Call) -> list[Any]:
        monkeypatch.setattr(group_commit, "LONGEST_WAIT", "20s")
        session.execute("LOCK TABLE ingest_batch IN EXCLUSIVE MODE")
        with ThreadPoolExecutor(len(calls) + 1) as pool:
            first = pool.submit(on_its_own, lambda: take(draft("leads the first group")))
            until(lambda: group_commit._gathering._under_way == 1)
            others = [pool.submit(on_its_own, call) for call in calls]
            until(lambda: len(group_commit._gathering._waiting) == len(calls))
            session.commit()
            assert outcomes([first.result(20)]) == ["accepted"]
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


def outcomes(replies):
    return [verdict.verdict for verdicts in replies for verdict in verdicts]


def commits() -> int:
    """In how many transactions the events came, but for the one that led the first group."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(DISTINCT xmin::text) FROM event WHERE event_id NOT LIKE 'leads%%'")
        return cursor.fetchone()[0]


def test_requests_of_the_same_moment_are_one_commit_and_keep_batches_of_their_own(draft, in_one_group, acme, globex):
    requests = [[draft(f"{number}-{place}", output_tokens=1) for place in range(number)] for number in range(1, 5)]
    requests.append([draft("a", type="nobody.reads"), draft("b"), draft("c", subject=globex.public_id)])

    replies = in_one_group(*[partial(take, *request) for request in requests])

    assert outcomes(replies) == ["accepted"] * 13
    assert commits() == 1
    batches = IngestBatch.objects.exclude(pk=Event.objects.get(event_id__startswith="leads").batch_id)
    rows = batches.order_by("event_count", "organisation").values_list("organisation", "event_count", "unmatched_count")
    assert list(rows) == [
        (acme.pk, 1, 0),
        (globex.pk, 1, 0),
        (acme.pk, 2, 0),
        (acme.pk, 2, 1),
        (acme.pk, 3, 0),
        (acme.pk, 4, 0),
    ]
    for batch in batches:
        assert Event.objects.filter(batch_id=batch.pk, organisation=batch.organisation_id).count() == batch.event_count


def test_a_batch_row_says_what_its_own_request_was(draft, in_one_group, service_token):
    early, late = NOW - timedelta(hours=3), NOW - timedelta(minutes=1)
    token = service_token.token
    in_one_group(
        lambda: accept([draft("1", time=early)], format="one", service_token_id=token.pk, now=NOW),
        lambda: accept([draft("2", time=late), draft("3")], format="two", service_token_id=None, now=late),
    )
    columns = ("format", "service_token_id", "received_at", "first_time", "last_time")
    assert list(IngestBatch.objects.exclude(format="test").order_by("format").values_list(*columns)) == [
        ("one", token.pk, NOW, early, early),
        ("two", None, late, late, NOW),
    ]


def test_the_same_event_in_two_requests_of_a_group_is_counted_once(draft, in_one_group):
    calls = [lambda: take(draft("1", output_tokens=1)) for _ in range(3)]
    replies = in_one_group(*calls, lambda: take(draft("2")))
    assert sorted(outcomes(replies)) == ["accepted", "accepted", "duplicate", "duplicate"]
    assert Event.objects.filter(event_id="1").count() == 1
    assert sum(IngestBatch.objects.values_list("event_count", flat=True)) == Event.objects.count() == 3


def test_another_body_in_another_request_of_a_group_is_a_conflict(draft, in_one_group):
    replies = in_one_group(lambda: take(draft("1", output_tokens=1)), lambda: take(draft("1", output_tokens=2)))
    assert sorted(outcomes(replies)) == ["accepted", "conflict"]
    assert RejectedEvent.objects.get().event_id == "1"


def test_what_is_known_in_one_request_leaves_the_others_alone(draft, in_one_group):
    last_month = NOW - timedelta(days=20)
    take(draft("of last month", time=last_month), now=last_month)
    take(draft("of today"))
    replies = in_one_group(
        lambda: take(draft("of last month", time=last_month), draft("1"), draft("of today", output_tokens=1)),
        lambda: take(draft("2"), draft("of today")),
        lambda: take(draft("3")),
    )
    assert outcomes(replies) == ["duplicate", "accepted", "conflict", "accepted", "duplicate", "accepted"]
    counts = {batch.pk: batch.event_count for batch in IngestBatch.objects.all()}
    assert {pk: Event.objects.filter(batch_id=pk).count() for pk in counts} == counts


def test_an_event_that_cannot_be_stored_is_refused_alone(draft, in_one_group):
    unstorable = draft("bad", data={"model": "m-1", "note": "x"})
    spoiled = type(unstorable)(
        *[getattr(unstorable, name) for name in ("source", "event_id", "type", "subject", "time")],
        raw_data=b'{"note": "\\ud800"}',
        data={"note": "x"},
    )
    replies = in_one_group(
        lambda: take(draft("1"), spoiled, draft("2")), lambda: take(draft("3")), lambda: take(draft("4"))
    )
    assert outcomes(replies) == ["accepted", "rejected", "accepted", "accepted", "accepted"]


def test_a_token_that_ended_ends_its_own_request_only(draft, in_one_group):
    ended, live = factories.service_token("ended").token, factories.service_token("live").token
    type(ended).objects.filter(pk=ended.pk).update(revoked_at=timezone.now())

    def refuse() -> None:
        raise Problem(401, "token_revoked", "This token has been revoked.")

    options = {"format": "test", "now": NOW}
    replies = in_one_group(
        lambda: accept([draft("1")], service_token_id=ended.pk, confirm=refuse, **options),
        lambda: accept([draft("2")], service_token_id=live.pk, confirm=lambda: None, **options),
        lambda: accept([draft("3")], service_token_id=None, **options),
    )
    assert isinstance(replies[0], Problem)
    assert outcomes(replies[1:]) == ["accepted", "accepted"]
    assert not Event.objects.filter(event_id="1").exists()


@contextmanager
def rival_of(session, draft, event_id: str) -> Iterator[None]:
    """Somebody else's transaction has inserted this event and goes on until the end of the block."""
    insert = "INSERT INTO event SELECT %s, 1, %s, %s, %s, '2026-11-01', %s, false, 'gateway', %s, 'ai.usage', %s, '{}'"
    one = draft(event_id)
    key = factories.ApiKey.objects.get(public_id=one.subject)
    places = [key.organisation_id, NOW, key.project_id, key.pk, event_key("gateway", event_id).hex()]
    session.execute(insert, [*places, event_id, one.subject])
    yield
    session.commit()


def test_a_rival_holds_up_its_own_request_only(draft, session):
    with ThreadPoolExecutor(2) as pool:
        with rival_of(session, draft, "1"):
            held_up = pool.submit(on_its_own, lambda: take(draft("1"), draft("2")))
            until(lambda: group_commit._gathering._under_way == 1)
            assert outcomes([take(draft("3")), take(draft("4"))]) == ["accepted", "accepted"]
            assert not held_up.done()
        assert outcomes([held_up.result(20)]) == ["conflict", "accepted"]


def test_requests_of_two_months_are_stored_in_their_own(draft, in_one_group):
    later = datetime(2026, 12, 15, tzinfo=UTC)
    replies = in_one_group(
        lambda: take(draft("1")), lambda: take(draft("2", time=later), now=later), lambda: take(draft("3"))
    )
    assert outcomes(replies) == ["accepted", "accepted", "accepted"]
    months = dict(Event.objects.values_list("event_id", "receipt_month__month"))
    assert months == {"leads the first group": 11, "1": 11, "2": 12, "3": 11}
