"""Voids and amendments: which are carried out, and what they do to totals."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, connection, transaction

from metering.aggregation import compare_totals, fold_pending, rebuild_totals
from metering.event_quantities import event_quantities
from metering.models import Correction, Event, IngestBatch, RejectedEvent, UsageDay, UsageInterval
from metering.reports import pending_events, quantities
from tests import factories
from tests.metering.conftest import NOW, take
from tests.metering.usage_world import fold_all

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
START, END = NOW - 40 * DAY, NOW + DAY


@pytest.fixture
def void(draft):
    def make(event_id="v", of="1", *, source="gateway", **fields):
        data = {"corrects": {"source": source, "id": of}} | fields.pop("further", {})
        return draft(event_id, type="kilotoken.void", data=data, **fields)

    return make


@pytest.fixture
def amendment(draft):
    def make(event_id="a", of="1", *, source="gateway", time=NOW, subject=None, **values):
        data = {"corrects": {"source": source, "id": of}, "data": {"model": "m-1"} | values}
        named = {"subject": subject} if subject else {}
        return draft(event_id, type="kilotoken.amendment", data=data, time=time, **named)

    return make


def totals(organisation):
    """Meter and model -> value, as billing reads them."""
    found = quantities(organisation, start=START, end=END)
    assert compare_totals() == []
    billed = event_quantities(organisation, start=START, end=END, splits=(), received_by=NOW + DAY)
    assert {(one.meter_key, one.model, one.value) for one in billed} == {
        (one.meter_key, one.model, one.value) for one in found
    }
    return {(one.meter_key, one.model): one.value for one in found}


def outcome(verdict):
    return verdict.reason or verdict.verdict


def test_a_void_takes_everything_back_and_leaves_both_events(draft, void, acme):
    take(draft("1", input_tokens=10, output_tokens="0.5"), draft("2", input_tokens=3))
    fold_all(NOW)
    [verdict] = take(void())
    assert (verdict.verdict, verdict.meters) == ("accepted", ("input_tokens", "output_tokens", "requests"))
    fold_all(NOW)
    assert totals(acme) == {("input_tokens", "m-1"): 3, ("requests", "m-1"): 1}
    assert set(Event.objects.values_list("event_id", flat=True)) == {"1", "2", "v"}


def test_what_is_taken_back_whole_leaves_no_total_behind(draft, void, acme):
    take(draft("1", input_tokens=10))
    fold_all(NOW)
    take(void())
    fold_all(NOW)
    assert totals(acme) == {}
    assert not UsageInterval.objects.exists()
    assert not UsageDay.objects.exists()


def test_an_event_and_its_void_in_one_request_come_to_nothing(draft, void, acme):
    assert [outcome(one) for one in take(void(), draft("1", input_tokens=10))] == ["accepted", "accepted"]
    fold_all(NOW)
    assert totals(acme) == {}


def test_an_amendment_counts_the_difference_where_the_original_counted(draft, amendment, acme):
    then = NOW - 3 * DAY
    take(draft("1", input_tokens=10, output_tokens=1, time=then))
    fold_all(NOW)
    [verdict] = take(amendment(input_tokens=Decimal("7.25"), model="m-2"))
    assert verdict.meters == ("input_tokens", "output_tokens", "requests")
    fold_all(NOW)
    assert totals(acme) == {("input_tokens", "m-2"): Decimal("7.25"), ("requests", "m-2"): 1}
    quarter_hours = set(UsageInterval.objects.values_list("starts_at", flat=True))
    assert quarter_hours == {then}


def test_the_count_stays_and_a_zero_is_a_reading(draft, amendment, acme):
    take(draft("1", input_tokens=10))
    take(amendment(input_tokens=0))
    fold_all(NOW)
    assert totals(acme) == {("input_tokens", "m-1"): 0, ("requests", "m-1"): 1}


def test_the_credential_that_counts_is_the_originals(draft, amendment, acme, globex):
    other = factories.api_key(acme, "Other").api_key
    take(draft("1", input_tokens=10))
    take(amendment(input_tokens=4, subject=other.public_id))
    fold_all(NOW)
    [row] = Correction.objects.all()
    assert row.api_key_id == Event.objects.get(event_id="1").api_key_id
    assert totals(acme)["input_tokens", "m-1"] == 4


def test_a_correction_sent_again_is_a_duplicate(draft, void, amendment, acme):
    take(draft("1", input_tokens=10), draft("2", input_tokens=1))
    assert [outcome(one) for one in take(void(), amendment(of="2", input_tokens=5))] == ["accepted"] * 2
    assert [outcome(one) for one in take(void(), amendment(of="2", input_tokens=5))] == ["duplicate"] * 2
    assert outcome(take(void(of="2"))[0]) == "conflict"
    fold_all(NOW)
    assert totals(acme)["input_tokens", "m-1"] == 5
    assert Correction.objects.count() == 2


def test_an_event_is_corrected_once(draft, void, amendment, acme):
    take(draft("1", input_tokens=10))
    verdicts = take(amendment("a", input_tokens=5), amendment("b", input_tokens=6), void("c"))
    assert [outcome(one) for one in verdicts] == ["accepted", "already_corrected", "already_corrected"]
    [again] = take(void("d"))
    assert (again.reason, "'a' of 'gateway'" in again.detail) == ("already_corrected", True)
    fold_all(NOW)
    assert totals(acme)["input_tokens", "m-1"] == 5


def test_an_amendment_is_corrected_by_naming_it(draft, void, amendment, acme):
    then = NOW - 2 * DAY
    take(draft("1", input_tokens=10, time=then))
    take(amendment("a", input_tokens=5))
    take(amendment("b", of="a", input_tokens=7))
    fold_all(NOW)
    assert totals(acme)["input_tokens", "m-1"] == 7
    take(void("c", of="b"))
    fold_all(NOW)
    assert totals(acme) == {}
    assert {row.time for row in Correction.objects.all()} == {then}
    assert outcome(take(amendment("d", of="c", input_tokens=1))[0]) == "invalid_correction"


def test_a_chain_within_one_request_is_carried_out_in_order(draft, void, amendment, acme):
    chain = [void("c", of="b"), amendment("b", of="a", input_tokens=7), amendment("a", input_tokens=5)]
    assert [outcome(one) for one in take(*chain, draft("1", input_tokens=10))] == ["accepted"] * 4
    fold_all(NOW)
    assert totals(acme) == {}


def test_corrections_that_name_each_other_are_refused(amendment):
    verdicts = take(amendment("a", of="b"), amendment("b", of="a"), amendment("c", of="c"))
    assert [outcome(one) for one in verdicts] == ["unknown_original"] * 3


def test_a_correction_that_comes_first_is_kept_and_counts_when_sent_again(draft, void, acme):
    assert outcome(take(void())[0]) == "unknown_original"
    assert RejectedEvent.objects.get().organisation == acme
    take(draft("1", input_tokens=10))
    assert outcome(take(void())[0]) == "accepted"
    fold_all(NOW)
    assert totals(acme) == {}


def test_another_organisations_event_does_not_exist(draft, void, acme, globex):
    take(draft("1", input_tokens=10))
    assert outcome(take(void(subject=globex.public_id))[0]) == "unknown_original"
    fold_all(NOW)
    assert totals(acme)["input_tokens", "m-1"] == 10


@pytest.mark.parametrize(
    ("type", "data", "reason"),
    [
        ("kilotoken.void", {}, "invalid_correction"),
        ("kilotoken.void", {"corrects": "1"}, "invalid_correction"),
        ("kilotoken.void", {"corrects": {"source": "gateway", "id": 1}}, "invalid_correction"),
        ("kilotoken.void", {"corrects": {"source": "gateway", "id": "1"}, "data": {}}, "invalid_correction"),
        ("kilotoken.amendment", {"corrects": {"source": "gateway", "id": "1"}}, "invalid_correction"),
        ("kilotoken.amendment", {"corrects": {"source": "gateway", "id": "1"}, "data": 5}, "invalid_correction"),
        (
            "kilotoken.amendment",
            {"corrects": {"source": "gateway", "id": "1"}, "data": {"input_tokens": "many"}},
            "invalid_value",
        ),
    ],
)
def test_a_correction_that_says_too_little_is_refused(draft, type, data, reason, acme):
    take(draft("1", input_tokens=10))
    assert outcome(take(draft("x", type=type, data=data))[0]) == reason
    fold_all(NOW)
    assert totals(acme)["input_tokens", "m-1"] == 10


def test_what_is_older_than_the_late_window_changes_only_by_backfill(draft, void, settings, acme):
    oldest = NOW - timedelta(days=settings.LATE_WINDOW_DAYS)
    tick = timedelta(microseconds=1)
    take(draft("1", input_tokens=10, time=oldest), draft("2", input_tokens=1, time=oldest - tick), backfill=True)
    assert outcome(take(void("v1"))[0]) == "accepted"
    assert outcome(take(void("v2", of="2"))[0]) == "too_old"
    assert outcome(take(void("v2", of="2"), backfill=True)[0]) == "accepted"
    fold_all(NOW)
    assert totals(acme) == {}


def test_an_event_of_an_earlier_month_of_receipt_is_found(draft, void, acme):
    take(draft("1", input_tokens=10, time=NOW - 20 * DAY), now=NOW - 20 * DAY)
    assert outcome(take(void())[0]) == "accepted"
    fold_all(NOW)
    assert totals(acme) == {}


def test_a_pending_correction_holds_up_the_period_it_changes(draft, void, acme):
    then = NOW - 3 * DAY
    take(draft("1", input_tokens=10, time=then))
    fold_all(NOW)
    take(void())
    assert pending_events(acme, start=then, end=then + timedelta(minutes=1)) == 1
    fold_all(NOW)
    assert pending_events(acme, start=START, end=END) == 0


def test_a_correction_is_folded_after_what_it_corrects(draft, void, acme):
    take(draft("1", input_tokens=10))
    take(void())
    original = IngestBatch.objects.order_by("pk").first()
    # Another worker holds the original's batch: as good as absent from the queue.
    with connection.cursor() as cursor:
        cursor.execute("UPDATE ingest_batch SET id = id + 1000000 WHERE id = %s", [original.pk])
        cursor.execute("ALTER TABLE event_correction DISABLE TRIGGER event_correction_append_only")
        cursor.execute("UPDATE event_correction SET original_batch_id = original_batch_id + 1000000")
    assert fold_pending(now=NOW, limit_events=1).batches == 0
    assert not UsageInterval.objects.exists()


def test_rebuilding_knows_of_corrections(draft, void, amendment, acme):
    take(draft("1", input_tokens=10), draft("2", input_tokens=1), void(), amendment(of="2", input_tokens=5))
    fold_all(NOW)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE usage_interval SET value = 99")
    rebuild_totals(acme, NOW - DAY, NOW + DAY)
    assert totals(acme) == {("input_tokens", "m-1"): 5, ("requests", "m-1"): 1}


def test_what_corrections_do_is_never_edited(draft, void):
    take(draft("1", input_tokens=10), void())
    for change in ("UPDATE event_correction SET taken_back = '{}'", "DELETE FROM event_correction"):
        with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(change)
