"""Real connections: workers that seal at once, and intake transactions that are still open when the day is sealed."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import OperationalError, connection, transaction

from metering.models import Event, Seal
from metering.seal_checks import check_seals
from metering.sealing import seal_days
from tests.metering.sealed_world import at, receive
from tests.metering.usage_world import event, send

pytestmark = pytest.mark.django_db(transaction=True)


def closing(work):
    """The work in a thread, with a connection that is closed behind it."""

    def done(*args):
        try:
            return work(*args)
        finally:
            connection.close()

    return done


def test_many_workers_make_one_chain(acme, globex):
    for day in (10, 11, 12):
        receive(acme, day, day, day + 100)
        receive(globex, day, day)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(closing(lambda _: seal_days(now=at(14))), range(6)))
    seal_days(now=at(14))
    assert Seal.objects.count() == 6
    for organisation in (acme, globex):
        assert check_seals(organisation, now=at(14)).findings == []


def test_sealing_waits_for_a_batch_that_is_not_committed_yet(acme):
    receive(acme, 10, 1)
    is_written, may_commit = threading.Event(), threading.Event()

    def slow_batch():
        with transaction.atomic():
            _insert_batch(acme)
            is_written.set()
            assert may_commit.wait(10)

    with ThreadPoolExecutor(2) as pool:
        batch = pool.submit(closing(slow_batch))
        assert is_written.wait(10)
        sealing = pool.submit(closing(lambda: seal_days(now=at(12))))
        with pytest.raises(TimeoutError):
            sealing.result(timeout=1)
        may_commit.set()
        batch.result(10)
        # The batch claims one event that no row holds: sealing saw it, though it was not there when sealing began.
        assert "hold 2 events, and 1 are there" in sealing.result(10).failures[0]


def test_a_batch_that_comes_while_its_day_is_being_sealed_waits_and_is_refused(acme):
    receive(acme, 10, 1)
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            assert len(seal_days(now=at(12)).seals) == 1
            late = pool.submit(closing(lambda: send(event(acme.public_id, at(10)), now=at(10))))
            with pytest.raises(TimeoutError):
                late.result(timeout=1)
        with pytest.raises(OperationalError, match="are sealed"):
            late.result(10)
    assert Event.objects.count() == 1
    assert check_seals(acme, now=at(14)).findings == []


def test_todays_batches_do_not_wait_for_yesterdays_seal(acme):
    receive(acme, 10, 1)
    with transaction.atomic():
        seal_days(now=at(11, 1))
        with ThreadPoolExecutor(1) as pool:
            today = pool.submit(closing(lambda: send(event(acme.public_id, at(11, 1)), now=at(11, 1))))
            assert [verdict.verdict for verdict in today.result(5)] == ["accepted"]


def _insert_batch(organisation) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO ingest_batch (organisation_id, receipt_month, received_at, format, event_count, "
            "unmatched_count, first_time, last_time) VALUES (%s, '2026-11-01', %s, 'test', 1, 0, %s, %s)",
            [organisation.pk, at(10, 23), at(10), at(10)],
        )
