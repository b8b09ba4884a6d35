import html
import re
from datetime import UTC, datetime

import pytest
import time_machine
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEntry
from metering.intake import accept
from metering.models import Aggregation, IngestBatch, Meter, RejectedEvent, TotalsCheck
from tests.metering.usage_world import event, fold_all, send

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)


@pytest.fixture
def admin(client_for, operator):
    return client_for(operator)


@pytest.fixture
def refused(acme, acme_key):
    drafts = [event(acme_key.api_key.public_id, NOW, event_id=f"bad-{n}", input_tokens="NaN") for n in range(2)]
    accept(drafts, format="test", service_token_id=None, now=NOW)
    return RejectedEvent.objects.all()


def test_every_page_opens(admin, refused, acme_key):
    send(event(acme_key.api_key.public_id, NOW, input_tokens=1), now=NOW)
    TotalsCheck.objects.create(started_at=NOW, finished_at=NOW, differences=0)
    for name in ("meter", "ingestbatch", "rejectedevent", "totalscheck"):
        assert admin.get(reverse(f"admin:metering_{name}_changelist")).status_code == 200, name
    for row in (Meter.objects.first(), IngestBatch.objects.first(), refused[0], TotalsCheck.objects.first()):
        address = reverse(f"admin:metering_{row._meta.model_name}_change", args=[row.pk])
        assert admin.get(address).status_code == 200, row
    assert admin.get(reverse("admin:metering_meter_add")).status_code == 200


def test_batches_say_how_far_totals_are_behind(admin, acme_key):
    send(event(acme_key.api_key.public_id, NOW, input_tokens=1), now=NOW)
    address = reverse("admin:metering_ingestbatch_changelist")
    assert "1 events pending" in admin.get(address).content.decode()
    fold_all(NOW)
    assert "everything is in the totals" in admin.get(address).content.decode()


SOON = datetime(2026, 11, 15, 13, 15, tzinfo=UTC)
SECONDS = {
    "key": "seconds",
    "name": "Seconds",
    "event_type": "ai.usage",
    "value_field": "seconds",
    "aggregation": "sum",
    "unit": "seconds",
    "display_scale": "1",
    "dimensions": "model",
    "tiers": "{}",
    "filters": '[{"field": "operation", "operator": "eq", "values": ["speech"]}]',
    "position": "200",
    "effective_from_0": "2026-11-15",
    "effective_from_1": "13:15",
    "revisions-TOTAL_FORMS": "0",
    "revisions-INITIAL_FORMS": "0",
}


@pytest.fixture
def spoken(acme_key):
    subject = acme_key.api_key.public_id
    speech = [event(subject, NOW, seconds=n, operation="speech") for n in (1, "2.5", "soon")]
    send(*speech, event(subject, NOW, seconds=100, operation="chat"), now=NOW)


@time_machine.travel(NOW, tick=False)
def test_a_meter_is_looked_at_before_it_is_defined(admin, spoken, operator):
    address = reverse("admin:metering_meter_add")
    looked = admin.post(address, SECONDS).content.decode()
    assert not Meter.objects.filter(key="seconds").exists()
    shown = re.sub(r"<[^>]*>", "", looked)
    assert "Of the latest 4 events of this type, the conditions let 3 through, and 2 carry a value" in shown
    assert "Together they come to 3.5 seconds in 1 set of dimensions" in shown
    assert "soon" in shown
    answer = admin.post(address, SECONDS | {"confirmed": "yes"}, follow=True)
    assert answer.status_code == 200
    meter = Meter.objects.get(key="seconds")
    assert (meter.dimensions, meter.effective_from) == (["model"], SOON)
    entry = AuditEntry.objects.get(action="meter.defined")
    assert (entry.subject_id, entry.actor) == ("seconds", operator)


@time_machine.travel(NOW, tick=False)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"effective_from_1": "13:00"}, "Choose 2026-11-15 13:15 UTC or later"),
        ({"filters": '[{"field": "operation", "operator": "like", "values": ["x"]}]'}, "An operator is one of"),
        ({"filters": '{"field": 1}'}, "Conditions are a list"),
        ({"tiers": '{"model": {"fields": ["a"], "steps": [{"label": "x"}]}}'}, "needs a name of its own"),
        ({"dimensions": "project"}, "a dimension of every meter already"),
        ({"aggregation": "count"}, "A count counts events"),
        ({"value_field": "a..b"}, "no member of an event"),
    ],
)
def test_a_definition_that_cannot_work_is_refused_with_a_sentence(admin, change, words):
    answer = admin.post(reverse("admin:metering_meter_add"), SECONDS | change)
    assert words in html.unescape(answer.content.decode())
    assert not Meter.objects.filter(key="seconds").exists()


@time_machine.travel(NOW, tick=False)
def test_words_change_at_once_and_the_definition_for_later_events(admin, spoken, operator):
    meter = Meter.objects.get(key="input_tokens")
    address = reverse("admin:metering_meter_change", args=[meter.pk])
    fields = SECONDS | {"name": "Prompt", "unit": "tokens", "dimensions": "model,region", "filters": "[]"}
    looked = admin.post(address, fields).content.decode()
    assert "Change the meter" in looked
    admin.post(address, fields | {"confirmed": "yes"})
    meter.refresh_from_db()
    assert (meter.name, meter.value_field) == ("Prompt", "input_tokens")
    assert meter.dimensions == ["model", "service_tier"]
    [revision] = meter.revisions.all()
    assert (revision.dimensions, revision.effective_from) == (["model", "region"], SOON)
    actions = set(AuditEntry.objects.filter(subject_id="input_tokens").values_list("action", flat=True))
    assert actions == {"meter.reworded", "meter.revised"}
    assert "region" in admin.get(address).content.decode()


def test_every_aggregation_is_on_offer(admin):
    shown = admin.get(reverse("admin:metering_meter_add")).content.decode()
    assert all(f'value="{one}"' in shown for one in Aggregation.values)


def test_what_totals_are_made_of_cannot_be_edited(admin):
    meter = Meter.objects.get(key="input_tokens")
    fields = SECONDS | {"name": "Prompt", "value_field": "other", "unit": "tokens", "filters": "[]", "position": "1"}
    fields["dimensions"] = "model,service_tier"
    admin.post(reverse("admin:metering_meter_change", args=[meter.pk]), fields)
    meter.refresh_from_db()
    assert (meter.name, meter.value_field) == ("Prompt", "input_tokens")
    assert admin.post(reverse("admin:metering_meter_delete", args=[meter.pk])).status_code == 403


def test_an_archived_meter_reads_nothing_more(admin, acme_key):
    meter = Meter.objects.get(key="requests")
    action = {"action": "archive_selected", "_selected_action": [meter.pk]}
    admin.post(reverse("admin:metering_meter_changelist"), action)
    meter.refresh_from_db()
    assert meter.archived_at is not None
    assert AuditEntry.objects.get(action="meter.archived").subject_id == "requests"
    later = timezone.now()
    [verdict] = send(event(acme_key.api_key.public_id, later, input_tokens=1), now=later)
    assert verdict.meters == ("input_tokens",)


def test_refusals_are_dismissed_with_an_audit_entry_each(admin, refused, acme):
    action = {"action": "dismiss_selected", "_selected_action": [row.pk for row in refused]}
    asked = admin.post(reverse("admin:metering_rejectedevent_changelist"), action).content.decode()
    assert "2 open events" in asked
    assert {row.state for row in RejectedEvent.objects.all()} == {"open"}
    action |= {"confirmed": "yes"}
    assert "required" in admin.post(reverse("admin:metering_rejectedevent_changelist"), action).content.decode()
    action |= {"reason": "Test traffic"}
    admin.post(reverse("admin:metering_rejectedevent_changelist"), action)
    assert {row.state for row in RejectedEvent.objects.all()} == {"dismissed"}
    entries = AuditEntry.objects.filter(action="rejected_event.dismissed")
    assert {entry.organisation for entry in entries} == {acme}
    assert entries.count() == 2
    admin.post(reverse("admin:metering_rejectedevent_changelist"), action)
    assert entries.count() == 2


def test_refusals_are_found_by_reason_and_words(admin, refused):
    address = reverse("admin:metering_rejectedevent_changelist")
    assert "bad-0" in admin.get(address, {"reason__exact": "invalid_value", "q": "bad-0"}).content.decode()
    assert "bad-0" not in admin.get(address, {"reason__exact": "too_old"}).content.decode()
