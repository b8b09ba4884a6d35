import pytest

from metering.intake import accept
from metering.models import Event, IngestBatch, RejectedEvent
from tests.metering.conftest import NOW

pytestmark = pytest.mark.django_db


def take(*drafts, now=NOW, **options):
    return accept(list(drafts), format="test", service_token_id=None, now=now, **options)


def test_an_accepted_event_is_a_row_with_all_that_was_sent(draft, acme, acme_key):
    [verdict] = take(draft("1", input_tokens=10, output_tokens=5))

    assert verdict.verdict == "accepted"
    assert verdict.meters == ("input_tokens", "output_tokens", "requests")
    event = Event.objects.get()
    assert (event.organisation_id, event.api_key_id, event.project_id) == (
        acme.pk,
        acme_key.api_key.pk,
        acme_key.api_key.project_id,
    )
    assert (event.source, event.event_id, event.type) == ("gateway", "1", "ai.usage")
    assert (event.time, event.time_assumed, str(event.receipt_month)) == (NOW, False, "2026-11-01")
    assert event.data == {"model": "m-1", "input_tokens": 10, "output_tokens": 5}
    batch = IngestBatch.objects.get()
    assert (batch.pk, batch.event_count, batch.folded_at) == (event.batch_id, 1, None)


def test_a_batch_sent_again_whole_changes_nothing(draft):
    events = [draft(str(number), output_tokens=number) for number in range(20)]
    take(*events)
    assert {verdict.verdict for verdict in take(*events)} == {"duplicate"}
    assert (Event.objects.count(), IngestBatch.objects.count(), RejectedEvent.objects.count()) == (20, 1, 0)


def test_another_body_under_the_same_id_is_a_conflict_and_kept_aside(draft):
    take(draft("1", output_tokens=5))
    [verdict] = take(draft("1", output_tokens=6))
    assert (verdict.verdict, verdict.reason) == ("conflict", "conflict")
    assert "data" in verdict.detail
    assert Event.objects.get().data["output_tokens"] == 5
    assert RejectedEvent.objects.get().reason == "conflict"
