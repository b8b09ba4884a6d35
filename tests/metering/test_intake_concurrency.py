"""Rivals: the same events from several processes at once, and processes that die half-way. Real commits throughout."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from metering import committing, event_store
from metering.identity import event_key
from metering.models import Event, IngestBatch, RejectedEvent
from tests.metering.conftest import NOW, take

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(*calls):
    """Run each in a thread with a connection of its own, all starting together; their results."""
    barrier = threading.Barrier(len(calls))

    def run(call):
        barrier.wait()
        try:
            return call()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def outcomes(*replies):
    return sorted(verdict.verdict for verdicts in replies for verdict in verdicts)


def assert_stored_once(events):
    assert Event.objects.count() == events
    assert sum(IngestBatch.objects.values_list("event_count", flat=True)) == events
    for batch in IngestBatch.objects.all():
        assert Event.objects.filter(batch_id=batch.pk).count() == batch.event_count > 0


def test_the_same_batch_from_several_senders_at_once_is_counted_once(draft):
    events = [draft(str(number), output_tokens=number) for number in range(300)]
    shuffled = [random.sample(events, len(events)) for _ in range(4)]
    replies = at_once(*[lambda batch=batch: take(*batch) for batch in shuffled])
    assert outcomes(*replies) == ["accepted"] * 300 + ["duplicate"] * 900
    assert_stored_once(300)


def test_overlapping_batches_at_once_are_counted_once(draft):
    events = [draft(str(number)) for number in range(400)]
    batches = [events[start : start + 200] for start in (0, 100, 200)] + [events[::-1][:150]]
    at_once(*[lambda batch=batch: take(*batch) for batch in batches])
    assert_stored_once(400)


def test_one_event_from_several_senders_at_once_is_counted_once(draft):
    event = draft("1", output_tokens=1)
    replies = at_once(*[lambda: take(event) for _ in range(4)])
    assert outcomes(*replies) == ["accepted", "duplicate", "duplicate", "duplicate"]
    assert_stored_once(1)


def test_a_single_event_costs_one_statement_and_waits_a_minute_at_most(draft):
    take(draft("warm"))
    with CaptureQueriesContext(connection) as statements:
        assert outcomes(take(draft("1"))) == ["accepted"]
    assert list(statements) == []  # but for the prepared one, which Django does not see
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements WHERE statement LIKE '%%lock_timeout%%'")
        assert cursor.fetchall()  # one per month of receipt that this session has met
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("0",)


def test_two_bodies_under_one_id_at_once_are_one_event_and_one_conflict(draft):
    for number in range(10):
        one, other = draft(str(number), output_tokens=1), draft(str(number), output_tokens=2)
        assert outcomes(*at_once(lambda one=one: take(one), lambda other=other: take(other))) == [
            "accepted",
            "conflict",
        ]
    assert_stored_once(10)
    assert RejectedEvent.objects.count() == 10


@pytest.fixture
def rival(acme, acme_key):
    """A sender whose transaction is open: rival(event_id) inserts, and rival.commit() ends it."""
    insert = "INSERT INTO event SELECT %s, 1, %s, %s, %s, '2026-11-01', %s, false, 'gateway', %s, 'ai.usage', %s, %s"
    key = acme_key.api_key
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None}) as session:

        def send(event_id):
            names = [event_key("gateway", event_id).hex(), event_id, key.public_id, '{"model": "m-1"}']
            session.execute(insert, [acme.pk, NOW, key.project_id, key.pk, *names])

        send.commit = session.commit
        yield send


def answer_after(commit, *events):
    """Take the events, which must wait for somebody until `commit` is called."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(at_once, lambda: take(*events))
        time.sleep(0.3)
        assert not answer.done()
        commit()
        [verdicts] = answer.result(timeout=20)
    return [verdict.verdict for verdict in verdicts]


def test_a_sender_that_looked_before_its_rival_committed_finds_the_duplicate_in_the_end(draft, rival):
    """The rival's row is there and not committed while we look up, COPY and wait for it."""
    rival("1")
    assert answer_after(rival.commit, draft("1"), draft("2")) == ["duplicate", "accepted"]
    assert Event.objects.count() == 2


@pytest.mark.parametrize("fields", [{}, {"output_tokens": 1}])
def test_a_rival_that_commits_after_the_second_look_is_noticed_too(draft, rival, fields):
    """A duplicate that is there already sends us down the staged path; the rival's is found by the insert."""
    ours, theirs = sorted(["1", "2"], key=lambda event_id: event_key("gateway", event_id))
    take(draft(ours))
    rival(theirs)
    found = answer_after(rival.commit, draft(ours), draft(theirs, **fields), draft("3"))
    assert found == ["duplicate", "conflict" if fields else "duplicate", "accepted"]
    assert sorted(IngestBatch.objects.values_list("event_count", flat=True)) == [1, 1]


@pytest.mark.parametrize("late_first", [False, True])
def test_the_same_event_on_both_sides_of_a_months_turn_is_counted_once(draft, monkeypatch, late_first):
    """Each would look before the other has committed, into partitions that share no index."""
    before = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)
    after = before + timedelta(seconds=2)
    copying, both = threading.Event(), event_store.copy_events

    def slow_copy(*args):
        both(*args)
        copying.set()
        time.sleep(0.4)

    monkeypatch.setattr(committing, "copy_events", slow_copy)
    event = draft("1", time=before, output_tokens=1)
    first, second = (after, before) if late_first else (before, after)

    def follow():
        copying.wait(10)
        return take(event, now=second)

    assert outcomes(*at_once(lambda: take(event, now=first), follow)) == ["accepted", "duplicate"]
    assert_stored_once(1)


def test_two_processes_that_miss_a_partition_make_it_once(draft):
    far = datetime(2033, 5, 15, tzinfo=UTC)
    calls = [lambda number=number: take(draft(f"{number}", time=far), now=far) for number in range(4)]
    assert outcomes(*at_once(*calls)) == ["accepted"] * 4
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE event_2033_05")


def test_several_organisations_in_opposite_orders_do_not_lock_each_other_out(draft, acme, globex):
    for number in range(10):
        mine = [draft(f"{number}-{place}", subject=acme.public_id) for place in range(30)]
        theirs = [draft(f"{number}-{place}", subject=globex.public_id) for place in range(30)]
        at_once(lambda: take(*mine, *theirs), lambda: take(*theirs[::-1], *mine[::-1]))  # noqa: B023
    assert_stored_once(600)


SENDER = """
    import os, sys
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    import django
    django.setup()
    from datetime import datetime
    from django.db import connection
    connection.settings_dict["NAME"] = sys.argv[1]
    from metering.drafts import make_draft
    from metering.intake import accept
    now = datetime.fromisoformat(sys.argv[3])
    print("ready", flush=True)
    for start in range(0, 4000, 200):
        drafts = [
            make_draft(source="gateway", event_id=str(number), type="ai.usage", subject=sys.argv[2], time=now,
                       data={"output_tokens": number})
            for number in range(start, start + 200)
        ]
        accept(drafts, format="test", service_token_id=None, now=now)
        print("kept", start + 200, flush=True)
"""


def send_in_a_process(subject):
    name = connection.settings_dict["NAME"]
    program = textwrap.dedent(SENDER)
    return subprocess.Popen(
        [sys.executable, "-c", program, name, subject, NOW.isoformat()],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_a_killed_sender_loses_nothing_it_was_told_and_a_resend_doubles_nothing(acme):
    for kill_after in (1, 3, 7):
        process = send_in_a_process(acme.public_id)
        told = 0
        for line in process.stdout:
            told = int(line.split()[1]) if line.startswith("kept") else 0
            if told >= kill_after * 200:
                time.sleep(random.random() * 0.01)
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
        process.stdout.close()
        assert Event.objects.filter(event_id__in=map(str, range(told))).count() == told
        assert Event.objects.count() % 200 == 0
    final = send_in_a_process(acme.public_id)
    assert "kept 4000" in final.communicate(timeout=60)[0]
    assert_stored_once(4000)
    assert sum(event.data["output_tokens"] for event in Event.objects.all()) == sum(range(4000))
