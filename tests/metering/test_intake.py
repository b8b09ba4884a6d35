import hashlib
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from accounts.api_keys import resolve_subjects
from metering.committing import PROBED_EVENTS
from metering.drafts import Refusal
from metering.exact_json import decode_object
from metering.models import Event, IngestBatch, RejectedEvent
from metering.models.events import RejectionReason
from tests import factories
from tests.metering.conftest import NOW, take

pytestmark = pytest.mark.django_db


def outcomes(verdicts):
    return [verdict.verdict for verdict in verdicts]


def test_an_accepted_event_is_a_row_with_all_that_was_sent(draft, acme, acme_key):
    [verdict] = take(draft("1", input_tokens=10, output_tokens=5))

    assert verdict.verdict == "accepted"
    assert verdict.meters == ("input_tokens", "output_tokens", "requests")
    event = Event.objects.get()
    key = acme_key.api_key
    assert (event.organisation_id, event.api_key_id, event.project_id) == (acme.pk, key.pk, key.project_id)
    assert (event.source, event.event_id, event.type, event.subject) == ("gateway", "1", "ai.usage", key.public_id)
    assert (event.time, event.time_assumed, str(event.receipt_month)) == (NOW, False, "2026-11-01")
    assert event.data == {"model": "m-1", "input_tokens": 10, "output_tokens": 5}


def test_the_batch_row_sums_up_its_events(draft, acme, service_token):
    early, late = NOW - timedelta(days=3), NOW - timedelta(seconds=1)
    take(draft("1", time=late), draft("2", time=early), draft("3", type="unknown"), draft("4", type="other"))
    batch = IngestBatch.objects.get()
    assert (batch.organisation_id, batch.event_count, batch.unmatched_count) == (acme.pk, 4, 2)
    assert (batch.first_time, batch.last_time, batch.received_at) == (early, NOW, NOW)
    assert (batch.format, batch.service_token_id, batch.folded_at) == ("test", None, None)
    assert set(Event.objects.values_list("batch_id", flat=True)) == {batch.pk}


def test_the_key_is_the_digest_of_source_and_id(draft):
    take(draft("id-ü", source="quelle"))
    content = b"\0\0\0\6quelle" + b"\0\0\0\5id-\xc3\xbc"
    assert Event.objects.get().key == UUID(bytes=hashlib.sha256(content).digest()[:16])


def test_exotic_texts_and_numbers_survive_unchanged(draft):
    data = {"model": 'q"\\\n\t€😀', "input_tokens": 12345678901234567890, "deep": [{"a": None}, True, "1.10"]}
    take(draft("naïve \\ ' \" 😀", data=data))
    event = Event.objects.get()
    assert (event.event_id, event.data) == ("naïve \\ ' \" 😀", data)


def test_a_key_counts_for_its_organisation_whether_live_or_revoked(draft, acme, acme_revoked_key):
    assert outcomes(take(draft(subject=acme_revoked_key.api_key.public_id))) == ["accepted"]
    assert Event.objects.get().organisation_id == acme.pk


def test_a_key_can_be_named_by_its_digest(draft, acme_key):
    assert outcomes(take(draft(subject=acme_key.digest))) == ["accepted"]
    assert Event.objects.get().api_key_id == acme_key.api_key.pk


def test_an_organisation_is_put_down_to_its_default_project(draft, acme):
    assert outcomes(take(draft(subject=acme.public_id))) == ["accepted"]
    event = Event.objects.get()
    assert (event.api_key_id, event.project_id) == (None, factories.default_project(acme).pk)


def test_a_subject_can_be_assumed(draft, acme, acme_key):
    assumed = resolve_subjects([acme_key.api_key.public_id])[acme_key.api_key.public_id]
    assert outcomes(take(draft(subject="whoever"), assume_subject=assumed)) == ["accepted"]
    assert Event.objects.get().api_key_id == acme_key.api_key.pk


# --- Identity ---------------------------------------------------------------------------------------------------------


def test_a_batch_sent_again_whole_changes_nothing(draft):
    events = [draft(str(number), output_tokens=number) for number in range(20)]
    take(*events)
    assert set(outcomes(take(*events))) == {"duplicate"}
    assert (Event.objects.count(), IngestBatch.objects.count(), RejectedEvent.objects.count()) == (20, 1, 0)


def test_only_what_is_new_in_a_resent_batch_is_counted(draft):
    take(*[draft(str(number)) for number in range(5)])
    verdicts = take(*[draft(str(number)) for number in range(8)])
    assert outcomes(verdicts) == ["duplicate"] * 5 + ["accepted"] * 3
    assert list(IngestBatch.objects.order_by("pk").values_list("event_count", flat=True)) == [5, 3]
    assert Event.objects.count() == 8


def test_the_order_of_members_and_the_spelling_of_numbers_make_no_conflict(draft):
    take(msgspec.structs.replace(draft("1"), raw_data=b'{"a": 1.0, "b": {"c": [1]}}', data={}))
    again = draft("1", data={"b": {"c": [1]}, "a": 1})
    assert outcomes(take(again)) == ["duplicate"]


@pytest.mark.parametrize("number", ["1e1000", "1e-1000", "9" * 1000, "-0", "0.10", "1E5", "1.5e-20"])
def test_numbers_of_any_spelling_are_the_same_when_sent_again(draft, number):
    """The database spells them its own way."""
    raw = f'{{"a": {number}}}'.encode()
    event = msgspec.structs.replace(draft("1"), raw_data=raw, data=decode_object(raw))
    assert outcomes(take(event)) == ["accepted"]
    assert outcomes(take(event)) == ["duplicate"]


@pytest.mark.parametrize(
    ("changes", "member"),
    [
        ({"output_tokens": 6}, "data"),
        ({"output_tokens": True, "type": "other"}, "type and data"),
        ({"output_tokens": 5, "type": "other"}, "type"),
        ({"output_tokens": 5, "time": NOW - timedelta(microseconds=1)}, "time"),
    ],
)
def test_another_body_under_the_same_id_is_a_conflict_and_kept_aside(draft, acme, changes, member):
    take(draft("1", output_tokens=5))
    [verdict] = take(draft("1", **changes))
    assert (verdict.verdict, verdict.reason) == ("conflict", "conflict")
    assert f"another {member}." in verdict.detail
    assert Event.objects.get().data["output_tokens"] == 5
    kept = RejectedEvent.objects.get()
    assert (kept.reason, kept.organisation_id, kept.source, kept.event_id) == ("conflict", acme.pk, "gateway", "1")


def test_another_subject_of_the_same_organisation_is_a_conflict(draft, acme):
    take(draft("1"))
    assert outcomes(take(draft("1", subject=acme.public_id))) == ["conflict"]


def test_repeats_within_a_request_are_settled_against_the_first(draft):
    verdicts = take(draft("1", output_tokens=5), draft("1", output_tokens=5), draft("1", output_tokens=6), draft("2"))
    assert outcomes(verdicts) == ["accepted", "duplicate", "conflict", "accepted"]
    assert Event.objects.count() == 2
    assert outcomes(take(draft("1", output_tokens=5), draft("1", output_tokens=5))) == ["duplicate", "duplicate"]


def test_two_organisations_may_use_the_same_ids(draft, globex, acme, gus):
    verdicts = take(draft("1"), draft("1", subject=globex.public_id), draft("1", subject=globex.public_id))
    assert outcomes(verdicts) == ["accepted", "accepted", "duplicate"]
    assert set(Event.objects.values_list("organisation_id", flat=True)) == {acme.pk, globex.pk}
    assert set(IngestBatch.objects.values_list("organisation_id", "event_count")) == {(acme.pk, 1), (globex.pk, 1)}


def test_two_sources_may_use_the_same_ids(draft):
    assert outcomes(take(draft("1", source="a"), draft("1", source="b"))) == ["accepted", "accepted"]


def test_source_and_id_are_not_simply_joined(draft):
    assert outcomes(take(draft("bc", source="a"), draft("c", source="ab"))) == ["accepted", "accepted"]


def test_an_event_received_last_month_is_known_this_month(draft):
    before = datetime(2026, 10, 28, 12, 0, tzinfo=UTC)
    take(draft("1", time=before), now=before)
    assert outcomes(take(draft("1", time=before))) == ["duplicate"]
    assert outcomes(take(draft("1", time=before, output_tokens=1))) == ["conflict"]
    assert outcomes(take(draft("1", time=NOW))) == ["conflict"]
    assert Event.objects.count() == 1


@pytest.mark.parametrize(("days", "options"), [(20, {}), (400, {"backfill": True})])
def test_a_large_batch_with_an_event_of_an_earlier_month_is_looked_at_one_by_one(draft, days, options):
    earlier = NOW - timedelta(days=days)
    take(draft("7", time=earlier), now=earlier)
    verdicts = take(*[draft(str(number), time=earlier) for number in range(30)], **options)
    assert [verdict.event_id for verdict in verdicts if verdict.verdict == "duplicate"] == ["7"]
    assert sorted(IngestBatch.objects.values_list("event_count", flat=True)) == [1, 29]
    assert Event.objects.count() == 30


def test_an_event_without_time_sent_again_is_a_duplicate(draft):
    [first] = take(draft("1", time=None))
    [second] = take(draft("1", time=None), now=NOW + timedelta(hours=1))
    assert (first.verdict, first.time_assumed) == ("accepted", True)
    assert (second.verdict, second.time_assumed) == ("duplicate", True)
    event = Event.objects.get()
    assert (event.time, event.time_assumed) == (NOW, True)
    assert outcomes(take(draft("1", time=NOW - timedelta(hours=2)))) == ["duplicate"]


def test_a_backfill_knows_every_month(draft):
    long_ago = datetime(2026, 3, 3, tzinfo=UTC)
    take(draft("1", time=long_ago), now=long_ago)
    assert outcomes(take(draft("1", time=long_ago), backfill=True)) == ["duplicate"]


# --- What is refused --------------------------------------------------------------------------------------------------


def test_a_refusal_is_kept_whole_with_its_reason(draft):
    refusal = Refusal(RejectionReason.INVALID_EVENT, "Send JSON.", b"\xff\x00 broken", "gateway", "9")
    [verdict] = take(refusal)
    assert (verdict.verdict, verdict.reason, verdict.detail) == ("rejected", "invalid_event", "Send JSON.")
    kept = RejectedEvent.objects.get()
    assert (kept.organisation_id, kept.source, kept.event_id) == (None, "gateway", "9")
    assert (kept.body, kept.seen_count, kept.format) == ("\ufffd\ufffd broken", 1, "test")


def test_the_same_refusal_again_only_counts_up(draft):
    bad = draft("1", output_tokens=-1)
    take(bad, bad)
    take(bad, now=NOW + timedelta(hours=1))
    kept = RejectedEvent.objects.get()
    assert (kept.seen_count, kept.first_seen_at, kept.last_seen_at) == (3, NOW, NOW + timedelta(hours=1))


def test_a_request_with_nothing_accepted_writes_no_batch(draft):
    take(draft("1", output_tokens=-1))
    assert IngestBatch.objects.count() == 0


def test_nothing_at_all_is_fine(db):
    assert take() == []


def test_a_repaired_event_is_accepted_under_its_id(draft):
    assert outcomes(take(draft("1", output_tokens=-1))) == ["rejected"]
    assert outcomes(take(draft("1", output_tokens=1))) == ["accepted"]


def test_verdicts_stand_in_the_order_sent(draft):
    refusal = Refusal(RejectionReason.INVALID_EVENT, "Send JSON.", b"?")
    events = [refusal, draft("b"), draft("a", output_tokens=-1), draft("a"), draft("b"), refusal, draft("c")]
    verdicts = take(*events)
    assert [verdict.event_id for verdict in verdicts] == ["", "b", "a", "a", "b", "", "c"]
    assert outcomes(verdicts) == ["rejected", "accepted", "rejected", "accepted", "duplicate", "rejected", "accepted"]


def test_a_secret_sent_by_mistake_is_not_kept(draft, acme_key):
    [verdict] = take(draft(subject=acme_key.secret))
    assert verdict.reason == "unknown_subject"
    assert acme_key.secret not in verdict.detail
    assert acme_key.secret not in str(RejectedEvent.objects.values().get())


@pytest.mark.parametrize(
    "raw", [b'{"a": "\\u0000"}', b'{"a": 1e999999}', b'{"a": ' + b"[" * 50000 + b"]" * 50000 + b"}"]
)
def test_what_the_database_cannot_store_is_refused_alone(draft, raw):
    """Formats refuse these; a draft from elsewhere must not take its neighbours along."""
    events = [draft(str(number)) for number in range(7)]
    events[3] = msgspec.structs.replace(events[3], raw_data=raw)
    verdicts = take(*events)
    assert outcomes(verdicts) == ["accepted"] * 3 + ["rejected"] + ["accepted"] * 3
    assert "cannot store" in verdicts[3].detail
    assert (Event.objects.count(), RejectedEvent.objects.get().reason) == (6, "invalid_event")


def test_a_missing_partition_is_made_when_it_is_needed(draft):
    far = datetime(2031, 2, 28, 12, 0, tzinfo=UTC)
    assert outcomes(take(draft("1", time=far), now=far)) == ["accepted"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM event_2031_02")
        assert cursor.fetchone() == (1,)


def test_a_row_can_be_neither_changed_nor_deleted(draft):
    take(draft("1"))
    for change in ("UPDATE event SET type = 'x'", "DELETE FROM event_2026_11"):
        with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(change)


def test_a_full_batch_costs_a_handful_of_statements(draft, django_assert_max_num_queries):
    events = [draft(str(number)) for number in range(300)]
    take(draft("warm"))
    with django_assert_max_num_queries(6):
        take(*events)


def test_a_large_batch_sent_again_is_recognised_before_anything_is_written(draft):
    """An aborted COPY would leave as many dead rows."""
    events = [draft(str(number)) for number in range(PROBED_EVENTS)]
    take(*events)
    with CaptureQueriesContext(connection) as statements:
        assert set(outcomes(take(*events))) == {"duplicate"}
    assert not [query for query in statements if "COPY" in query["sql"]]
    with CaptureQueriesContext(connection) as statements:
        take(*[draft(f"new {number}") for number in range(PROBED_EVENTS)])
    assert [query for query in statements if "COPY" in query["sql"]]
