"""Work lists in the admin: looking, repairing, replaying, dismissing, voiding."""

import json
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEntry
from metering.aggregation import compare_totals
from metering.models import Event, RejectedEvent
from tests.metering.conftest import take
from tests.metering.usage_world import fold_all

pytestmark = pytest.mark.django_db

LIST = "admin:metering_rejectedevent_changelist"


@pytest.fixture
def admin(client_for, operator):
    return client_for(operator)


@pytest.fixture
def now():
    return timezone.now() - timedelta(minutes=5)


def page(client, name, *args, **query):
    answer = client.get(reverse(f"admin:metering_{name}", args=args), query)
    assert answer.status_code == 200
    return answer.content.decode()


def test_an_event_is_repaired_and_replayed(admin, draft, now, acme):
    take(draft("1", time=now, input_tokens="many"), now=now)
    row = RejectedEvent.objects.get()
    address = reverse("admin:metering_rejectedevent_replay_this", args=[row.pk])
    assert "many" in admin.get(address).content.decode()
    still = admin.post(address, {"body": row.body}, follow=True).content.decode()
    assert "Still rejected" in still
    body = json.dumps(json.loads(row.body) | {"data": {"model": "m-1", "input_tokens": 5}})
    done = admin.post(address, {"body": body}, follow=True).content.decode()
    assert "Replayed: accepted. It feeds input_tokens, requests." in done
    assert RejectedEvent.objects.get().state == "replayed"
    assert Event.objects.count() == 1
    assert "replayed or dismissed already" in admin.post(address, {"body": body}, follow=True).content.decode()


def test_a_conflict_is_offered_as_an_amendment(admin, draft, now):
    take(draft("1", time=now, input_tokens=5), now=now)
    take(draft("1", time=now, input_tokens=6), now=now)
    row = RejectedEvent.objects.get()
    address = reverse("admin:metering_rejectedevent_replay_this", args=[row.pk])
    assert "?as=amendment" in admin.get(address).content.decode()
    assert "kilotoken.amendment" in admin.get(address, {"as": "amendment"}).content.decode()


def test_many_are_replayed_after_asking(admin, draft, now):
    take(*[draft(str(n), time=now, input_tokens="x") for n in range(3)], now=now)
    chosen = {"action": "replay_selected", "_selected_action": [row.pk for row in RejectedEvent.objects.all()]}
    assert "3 open events" in admin.post(reverse(LIST), chosen).content.decode()
    told = admin.post(reverse(LIST), chosen | {"confirmed": "yes"}, follow=True).content.decode()
    assert "Accepted: 0, known already: 0, refused again: 3." in told


def test_one_is_dismissed_with_a_reason(admin, draft, now):
    take(draft("1", time=now, input_tokens="x"), now=now)
    row = RejectedEvent.objects.get()
    address = reverse("admin:metering_rejectedevent_dismiss_this", args=[row.pk])
    assert "1 open event" in admin.get(address).content.decode()
    admin.post(address, {"reason": ""})
    assert RejectedEvent.objects.get().state == "open"
    admin.post(address, {"reason": "A test"})
    assert AuditEntry.objects.get(action="rejected_event.dismissed").details["settlement"] == "A test"


def test_the_list_counts_refusals_by_reason_and_day(admin, draft, now, acme):
    take(*[draft("1", time=now, input_tokens="x")] * 4, now=now)
    shown = page(admin, "rejectedevent_changelist")
    assert "A metered value is not a finite number" in shown
    assert ">4</td>" in shown
    assert "1" in page(admin, "rejectedevent_changelist", organisation__id__exact=acme.pk, state__exact="open")


def test_types_that_no_meter_reads_are_listed(admin, draft, now):
    assert "There are none" in page(admin, "ingestbatch_unmatched")
    take(draft("1", time=now, type="gpu.hours"), draft("2", time=now, type="gpu.hours"), draft("3", time=now), now=now)
    shown = page(admin, "ingestbatch_unmatched")
    assert "gpu.hours" in shown
    assert "?event_type=gpu.hours" in shown
    assert "ai.usage" not in shown
    assert 'value="gpu.hours"' in page(admin, "meter_add", event_type="gpu.hours")


def test_an_event_is_found_and_voided(admin, draft, now, acme):
    take(draft("1", time=now, input_tokens=5), now=now)
    named = {"organisation": "acme", "source": "gateway", "id": "1"}
    shown = page(admin, "ingestbatch_find_event", **named)
    assert "Void this event" in shown
    assert "&quot;input_tokens&quot;: 5" in shown
    void = reverse("admin:metering_ingestbatch_void")
    assert "required" in admin.post(void, named).content.decode()
    done = admin.post(void, named | {"reason": "Sent by mistake"}, follow=True).content.decode()
    assert "The event is void." in done
    assert "It feeds none any more" in done
    assert "Void this event" not in done
    fold_all(timezone.now())
    assert compare_totals() == []
    assert AuditEntry.objects.get(action="event.voided").organisation == acme


def test_what_never_arrived_is_not_found(admin, acme):
    assert "Nothing of that name" in page(admin, "ingestbatch_find_event", organisation="acme", source="a", id="b")
    assert "no such organisation" in page(admin, "ingestbatch_find_event", organisation="none", source="a", id="b")
    page(admin, "ingestbatch_find_event")


def test_only_operators_get_there(client_for, olivia, client):
    for one in (client, client_for(olivia)):
        for name in ("find_event", "unmatched", "void"):
            assert one.get(reverse(f"admin:metering_ingestbatch_{name}")).status_code == 302


def test_an_event_is_amended_after_a_look_at_what_changes(admin, draft, now, acme):
    take(draft("1", time=now, input_tokens=5), now=now)
    named = {"organisation": "acme", "source": "gateway", "id": "1"}
    assert "Let other figures count" in page(admin, "ingestbatch_find_event", **named)
    assert "&quot;input_tokens&quot;: 5" in page(admin, "ingestbatch_amend", **named)
    amend = reverse("admin:metering_ingestbatch_amend")
    said = named | {"figures": '{"model": "m-1", "input_tokens": 3.5}', "reason": "Miscounted"}
    assert "must be a JSON object" in admin.post(amend, said | {"figures": "[]", "look": "yes"}).content.decode()
    looked = admin.post(amend, said | {"look": "yes"}).content.decode()
    assert ">5</td>" in looked
    assert ">3.5</td>" in looked
    assert Event.objects.count() == 1
    done = admin.post(amend, said | {"amend": "yes"}, follow=True).content.decode()
    assert "The event is amended." in done
    assert "Let other figures count" not in done
    fold_all(timezone.now())
    assert compare_totals() == []
    assert AuditEntry.objects.get(action="event.amended").organisation == acme
    assert "corrected already" in admin.get(amend, named, follow=True).content.decode()


def test_many_are_repaired_after_a_look_at_what_changes(admin, draft, now):
    take(*[draft(str(n), time=now, input_tokens="x", model="gpt5") for n in range(3)], now=now)
    first = RejectedEvent.objects.first().pk
    chosen = {"action": "replay_selected", "_selected_action": [first], "select_across": "1", "confirmed": "yes"}
    assert "Name the member" in admin.post(reverse(LIST), chosen | {"to": "5"}).content.decode()
    said = chosen | {"field": "data.input_tokens", "was": "x", "to": "5"}
    looked = admin.post(reverse(LIST), said | {"look": "yes"}).content.decode()
    assert "Of 3 events 3 would change" in looked
    assert 'name="select_across" value="1"' in looked
    assert Event.objects.count() == 0
    told = admin.post(reverse(LIST), said, follow=True).content.decode()
    assert "Accepted: 3, known already: 0, refused again: 0." in told
    assert {event.data["input_tokens"] for event in Event.objects.all()} == {5}
    assert AuditEntry.objects.filter(action="rejected_event.replayed", details__edited=True).count() == 3


def test_a_selection_across_pages_keeps_to_the_filters(admin, draft, now, acme):
    take(draft("1", time=now, input_tokens="x"), draft("2", subject="key_nobody"), now=now)
    row = RejectedEvent.objects.get(reason="invalid_value").pk
    chosen = {"action": "dismiss_selected", "_selected_action": [row], "select_across": "1", "confirmed": "yes"}
    admin.post(f"{reverse(LIST)}?reason__exact=invalid_value", chosen | {"reason": "A test"})
    assert list(RejectedEvent.objects.filter(state="dismissed").values_list("pk", flat=True)) == [row]


def test_refusals_are_drawn_by_day_and_reason(admin, draft, now):
    take(*[draft("1", time=now, input_tokens="x")] * 4, now=now)
    shown = page(admin, "rejectedevent_changelist")
    assert "A metered value is not a finite number: 4</title>" in shown
    assert "the highest day has 4" in shown
