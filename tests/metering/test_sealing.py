from datetime import date, timedelta
from itertools import pairwise

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metering.canonical import NO_PREVIOUS
from metering.leaves import TILE_LEAVES
from metering.models import Event, IngestBatch, Seal, SealTile
from metering.sealing import MARGIN, seal_days
from metering.verifier import Tree, leaf_content, leaf_place, parse_exactly
from tests.metering.sealed_world import at, receive, seal, unguarded
from tests.metering.usage_world import event, send

pytestmark = pytest.mark.django_db


def expected_root(organisation, day):
    """What the verifier says to the events as the database prints them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT source, event_id, type, subject, time, time_assumed, e.data::text FROM event e "
            "JOIN ingest_batch b ON b.id = e.batch_id WHERE e.organisation_id = %s AND b.received_at::date = %s",
            [organisation.pk, day],
        )
        rows = cursor.fetchall()
    names = ("source", "id", "type", "subject", "time", "time_assumed", "data")
    events = [dict(zip(names, row, strict=True)) for row in rows]
    for one in events:
        one["time"] = f"{one['time']:%Y-%m-%dT%H:%M:%S.%fZ}"
        one["data"] = parse_exactly(one["data"])
    tree = Tree()
    for one in sorted(events, key=leaf_place):
        tree.add(leaf_content(one))
    return tree.root()


def test_each_day_of_receipt_gets_a_seal_chained_to_the_one_before(acme):
    receive(acme, 10, 1, 2, 3)
    receive(acme, 10, 4, hour=23)
    receive(acme, 13, 5)
    first, second = seal(at(14))
    assert [(one.day, one.event_count) for one in (first, second)] == [(date(2026, 11, 10), 4), (date(2026, 11, 13), 1)]
    assert (first.previous_digest, second.previous_digest) == (NO_PREVIOUS, first.digest)
    assert first.root == expected_root(acme, "2026-11-10")
    assert second.root == expected_root(acme, "2026-11-13")


def test_sealing_again_changes_nothing(acme):
    receive(acme, 10, 1)
    assert len(seal(at(12))) == 1
    assert seal(at(12)) == ()
    assert Seal.objects.count() == 1


def test_a_day_is_sealed_only_when_it_is_over_and_the_margin_past(acme):
    receive(acme, 10, 1)
    midnight = at(11, 0)
    assert seal(midnight + MARGIN - timedelta(microseconds=1)) == ()
    assert len(seal(midnight + MARGIN)) == 1


def test_the_day_is_utc_to_the_microsecond(acme):
    last = at(11, 0) - timedelta(microseconds=1)
    send(event(acme.public_id, last, event_id="last"), now=last)
    send(event(acme.public_id, last, event_id="next"), now=at(11, 0))
    assert [(one.day.day, one.event_count) for one in seal(at(12, 1))] == [(10, 1), (11, 1)]


def test_organisations_have_chains_of_their_own(acme, globex):
    receive(acme, 10, 1)
    receive(globex, 10, 1)
    receive(globex, 11, 2)
    assert len(seal(at(13))) == 3
    for organisation, days in ((acme, [10]), (globex, [11, 10])):
        chain = Seal.objects.for_organisation(organisation)
        assert [one.day.day for one in chain] == days
        assert chain.last().previous_digest == NO_PREVIOUS
    assert len(set(Seal.objects.values_list("digest", flat=True))) == 3


def test_late_events_never_change_a_sealed_day(acme):
    receive(acme, 10, 1)
    [sealed] = seal(at(11, 1))
    send(event(acme.public_id, at(10), event_id="late"), now=at(11, 2))
    [following] = seal(at(12, 1))
    sealed.refresh_from_db()
    assert sealed.root == expected_root(acme, "2026-11-10")
    assert (following.day.day, following.event_count) == (11, 1)


def test_a_batch_with_a_clock_on_a_sealed_day_is_refused_and_may_be_sent_again(acme):
    receive(acme, 10, 1)
    seal(at(12))
    for stale in (at(10, 23), at(9)):
        with pytest.raises(OperationalError, match="are sealed"):
            send(event(acme.public_id, at(9), event_id="stale"), now=stale)
    assert Event.objects.count() == IngestBatch.objects.count() == 1
    send(event(acme.public_id, at(9), event_id="stale"), now=at(12))
    assert Event.objects.count() == 2


def test_another_organisation_is_not_held_to_it(acme, globex):
    receive(acme, 10, 1)
    seal(at(12))
    receive(globex, 10, 1)
    assert Event.objects.filter(organisation=globex).count() == 1


def test_a_day_whose_events_are_not_all_there_stays_unsealed_with_those_after_it(acme, globex):
    receive(acme, 10, 1, 2)
    receive(acme, 11, 3)
    receive(globex, 10, 1)
    with unguarded() as cursor:
        cursor.execute("DELETE FROM event WHERE event_id = 'e-2'")
    done = seal_days(now=at(13))
    assert [one.organisation_id for one in done.seals] == [globex.pk]
    [failure] = done.failures
    assert acme.public_id in failure
    assert "The batches of 2026-11-10 hold 2 events, and 1 are there." in failure


def test_a_limit_leaves_the_rest_for_the_next_call(acme):
    for day in (10, 11, 12):
        receive(acme, day, day)
    first = seal_days(now=at(14), limit=2)
    assert (len(first.seals), first.more) == (2, True)
    second = seal_days(now=at(14), limit=2)
    assert (len(second.seals), second.more) == (1, False)


@pytest.mark.parametrize("count", [1, TILE_LEAVES - 1, TILE_LEAVES, TILE_LEAVES + 1, 3 * TILE_LEAVES + 5])
def test_days_of_any_size_have_the_root_of_all_their_events(acme, count):
    receive(acme, 10, *range(count))
    [sealed] = seal(at(12))
    assert sealed.event_count == count
    assert sealed.root == expected_root(acme, "2026-11-10")
    assert SealTile.objects.filter(seal=sealed).count() == -(-count // TILE_LEAVES)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(12)), cuts=st.sets(st.integers(1, 11)), hour=st.integers(0, 23))
def test_any_division_into_batches_in_any_order_gives_the_same_root(acme, order, cuts, hour):
    forget_everything()
    receive(acme, 10, *range(12))
    [expected] = seal(at(12))
    forget_everything()
    for start, end in pairwise([0, *sorted(cuts), 12]):
        receive(acme, 10, *order[start:end], hour=hour)
    [sealed] = seal(at(12))
    assert sealed.root == expected.root
    forget_everything()


def forget_everything():
    with unguarded() as cursor:
        for table in ("event", "ingest_batch", "metering_sealtile", "metering_seal"):
            cursor.execute(f"DELETE FROM {table}")


@pytest.mark.parametrize("table", ["metering_seal", "metering_sealtile"])
@pytest.mark.parametrize("change", ["UPDATE {} SET id = id", "DELETE FROM {}"])
def test_seals_can_be_neither_changed_nor_deleted(acme, table, change):
    receive(acme, 10, 1)
    seal(at(12))
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(change.format(table))


def test_sealing_costs_the_same_number_of_statements_whatever_the_day(acme, django_assert_max_num_queries):
    receive(acme, 10, *range(300))
    with django_assert_max_num_queries(12):
        assert len(seal(at(12))) == 1
