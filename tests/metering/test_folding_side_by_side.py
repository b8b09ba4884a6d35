"""Folding by several workers, killed and interrupted: the totals are always what the events say."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from metering.aggregation import compare_totals, fold_pending, rebuild_totals
from metering.aggregation.locks import rebuild_alone
from metering.models import IngestBatch, UsageInterval
from tests import factories
from tests.metering.usage_world import event, fold_all, send

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("folding_worker.py")


@pytest.fixture
def subjects(acme, globex):
    return [factories.api_key(one, f"Key {number}").api_key.public_id for one in (acme, globex) for number in range(3)]


def send_batches(subjects, count, size=5):
    """Batches that share quarter hours, series and organisations, so that workers meet at the same rows."""
    chance = random.Random(7)
    for _ in range(count):
        events = [
            event(
                chance.choice(subjects),
                NOW - timedelta(minutes=chance.randrange(0, 2000, 5)),
                model=f"m-{chance.randrange(3)}",
                input_tokens=1,
                output_tokens=chance.randrange(100),
            )
            for _ in range(size)
        ]
        send(*events, now=NOW)


def counted_requests():
    return sum(row.count for row in UsageInterval.objects.raw(REQUESTS))


REQUESTS = """
SELECT u.organisation_id, u.series_id, u.starts_at, u.count FROM usage_interval u
JOIN series s ON s.organisation_id = u.organisation_id AND s.id = u.series_id
JOIN metering_meter m ON m.id = s.meter_id WHERE m.key = 'requests'"""


@contextmanager
def worker(*words):
    """A folding process that has started and waits for a line."""
    environment = os.environ | {"DATABASE_URL": test_database(), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, str(WORKER), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_database():
    """The address of the database that this test runs in."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        name = cursor.fetchone()[0]
    address = os.environ["DATABASE_URL"]
    head, separator, options = address.partition("?")
    return f"{head.rpartition('/')[0]}/{name}{separator}{options}"


test_database.__test__ = False


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


def test_processes_fold_side_by_side_and_nothing_is_lost_or_doubled(subjects):
    send_batches(subjects, 80)
    with worker() as one, worker() as other:
        go(one)
        go(other)
        assert one.stdout.readline() == other.stdout.readline() == "done\n"
    assert IngestBatch.objects.pending().count() == 0
    assert counted_requests() == 400
    assert compare_totals() == []


def test_threads_fold_the_same_rows_without_deadlock(subjects):
    send_batches(subjects, 60)
    found, failures = Counter(), []

    def fold(name):
        try:
            while (folded := fold_pending(now=NOW, limit_events=15)).batches:
                found[name] += folded.events
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=fold, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fold_all(NOW)
    assert failures == []
    assert sum(found.values()) == counted_requests() == 300
    assert compare_totals() == []


@pytest.mark.parametrize("words", ["FETCH", "WITH", "UPDATE ingest_batch"])
def test_killed_worker_leaves_exact_totals_to_the_next(words, subjects):
    send_batches(subjects, 6)
    with worker(words) as doomed:
        go(doomed)
        assert doomed.stdout.readline() == "waiting\n"
        if words == "FETCH":
            # It holds its batch and no total yet: another folds the rest and does not wait for it.
            fold_all(NOW)
            assert IngestBatch.objects.pending().count() == 1
        doomed.send_signal(signal.SIGKILL)
        doomed.wait()
        fold_until_released()
    assert counted_requests() == 30
    assert compare_totals() == []


def fold_until_released():
    """PostgreSQL notices a dead client when it next reads from it."""
    for _ in range(200):
        fold_all(NOW)
        if not IngestBatch.objects.pending().exists():
            return
        threading.Event().wait(0.05)
    raise AssertionError("the dead worker's batches were never released")


def test_batches_of_an_organisation_wait_while_it_is_rebuilt(subjects, acme, globex):
    send_batches(subjects, 10, size=20)
    rebuilding, finish = threading.Event(), threading.Event()

    def rebuild():
        with transaction.atomic(), connection.cursor() as cursor:
            rebuild_alone(cursor, acme.pk)
            rebuilding.set()
            finish.wait(10)
        connection.close()

    thread = threading.Thread(target=rebuild)
    thread.start()
    rebuilding.wait(10)
    fold_all(NOW)
    assert set(IngestBatch.objects.pending().values_list("organisation_id", flat=True)) == {acme.pk}
    finish.set()
    thread.join()
    fold_all(NOW)
    assert counted_requests() == 200
    assert compare_totals() == []


def test_rebuilding_while_workers_fold_ends_in_exact_totals(subjects, acme):
    send_batches(subjects, 40)
    failures = []

    def fold():
        try:
            while fold_pending(now=NOW, limit_events=10).batches or IngestBatch.objects.pending().exists():
                pass
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=fold) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        rebuild_totals(acme, NOW - timedelta(days=3), NOW + timedelta(hours=1))
    for thread in threads:
        thread.join()
    assert failures == []
    assert counted_requests() == 200
    assert compare_totals() == []


TOKENS = [None, 0, 1, 250, "0.1", Decimal("0.02"), "1e2"]


class Totals(RuleBasedStateMachine):
    """Batches, resends, folds by two connections and rebuilds in any order, against a model of plain Python."""

    subjects: tuple[str, ...] = ()
    organisation = None

    def __init__(self):
        super().__init__()
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE event, event_correction, ingest_batch, series, usage_interval, usage_day")
        self.events = {}
        self.sent = []
        self.number = 0

    @rule(
        sizes=st.lists(
            st.tuples(
                st.integers(0, 1),
                st.integers(0, 200),
                st.sampled_from([None, 0, 1, 250, "0.1", Decimal("0.02"), "1e2"]),
            ),
            min_size=1,
            max_size=4,
        )
    )
    def send_batch(self, sizes):
        drafts = []
        for subject, minutes, tokens in sizes:
            self.number += 1
            drafts.append(
                event(
                    self.subjects[subject],
                    NOW - timedelta(minutes=minutes),
                    event_id=f"e-{self.number}",
                    input_tokens=tokens,
                )
            )
        send(*drafts, now=NOW)
        self.sent.append(drafts)
        self.events |= {draft.event_id: draft for draft in drafts}

    @rule(data=st.data())
    def send_again(self, data):
        if self.sent:
            send(*data.draw(st.sampled_from(self.sent)), now=NOW)

    @rule(limit=st.integers(1, 5))
    def fold_one_group(self, limit):
        fold_pending(now=NOW, limit_events=limit)

    @rule()
    def fold_beside_another_that_gives_up(self):
        """Another connection holds a group, folded and not committed, and rolls back in the end."""

        def fold():
            with transaction.atomic():
                fold_pending(now=NOW, limit_events=2)
                folded.set()
                finish.wait(10)
                transaction.set_rollback(True)
            connection.close()

        folded, finish = threading.Event(), threading.Event()
        thread = threading.Thread(target=fold)
        thread.start()
        folded.wait(10)
        pending = IngestBatch.objects.pending().count()
        finish.set()
        thread.join()
        assert IngestBatch.objects.pending().count() == pending
        fold_pending(now=NOW, limit_events=3)

    @rule(hours=st.integers(1, 4))
    def rebuild(self, hours):
        rebuild_totals(self.organisation, NOW - timedelta(hours=hours), NOW + timedelta(minutes=15))

    @invariant()
    def totals_are_what_folded_events_say(self):
        assert compare_totals() == []

    def teardown(self):
        fold_all(NOW)
        values = [
            Decimal(draft.data["input_tokens"])
            for draft in self.events.values()
            if draft.data["input_tokens"] is not None
        ]
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT coalesce(sum(u.value), 0), coalesce(sum(u.count), 0) FROM usage_day u "
                "JOIN series s ON s.organisation_id = u.organisation_id AND s.id = u.series_id "
                "JOIN metering_meter m ON m.id = s.meter_id WHERE m.key = 'input_tokens'"
            )
            assert cursor.fetchone() == (sum(values), len(values))
        assert counted_requests() == len(self.events)
        assert compare_totals() == []


def test_any_order_of_batches_resends_folds_and_rebuilds_ends_in_what_events_say(subjects, acme):
    Totals.subjects = (subjects[0], subjects[-1])
    Totals.organisation = acme
    quick = settings(max_examples=12, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Totals, settings=quick)
