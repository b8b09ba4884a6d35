"""The audit log: only ever added to, readable by those who may, by person and act."""

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import RequestFactory
from django.urls import reverse

from accounts import audit
from accounts.models import AuditEntry


@pytest.fixture
def entry(acme, olivia):
    return audit.record("thing.done", organisation=acme, actor=olivia, subject_id="thing_1", details={"size": [1, 2]})


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE accounts_auditentry SET action = 'other' WHERE id = %s",
        "DELETE FROM accounts_auditentry WHERE id = %s",
    ],
)
def test_the_database_refuses_changes(entry, statement):
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, [entry.pk])
    assert AuditEntry.objects.get(pk=entry.pk).action == "thing.done"


def test_the_model_refuses_changes(entry):
    with pytest.raises(TypeError):
        entry.save()
    with pytest.raises(TypeError):
        entry.delete()


def test_entry_goes_with_the_act_it_records(acme, olivia):
    with transaction.atomic():
        audit.record("thing.undone", organisation=acme, actor=olivia)
        transaction.set_rollback(True)
    assert not AuditEntry.objects.filter(action="thing.undone").exists()


def test_address_is_that_of_the_peer_and_not_what_a_header_claims(acme):
    request = RequestFactory().get("/", headers={"X-Forwarded-For": "203.0.113.9"})
    assert audit.record("thing.done", organisation=acme, request=request).ip_address == "127.0.0.1"
    assert audit.record("thing.done", organisation=acme).ip_address is None


def test_acts_without_a_person_name_what_acted(acme):
    assert audit.record("thing.done", organisation=acme).actor_label == "system"
    assert audit.record("thing.done", organisation=acme, actor="task close_period").actor_label == "task close_period"


def test_log_shows_acts_of_the_organisation_alone(entry, acme, globex, olivia, client_for):
    audit.record("secret.plan", organisation=globex)
    audit.record("installation.act", organisation=None)
    html = client_for(olivia).get(reverse("accounts:audit", args=["acme"])).content.decode()

    assert "thing.done" in html
    assert "size: 1 → 2" in html
    assert "Olivia Ortiz" in html
    assert "secret.plan" not in html
    assert "installation.act" not in html


def test_log_is_filtered_by_act_and_person(entry, acme, olivia, client_for):
    audit.record("other.thing", organisation=acme, actor="command x")
    client = client_for(olivia)
    address = reverse("accounts:audit", args=["acme"])

    shown = client.get(address, {"action": "other.thing"}).context["page_obj"].object_list
    assert [one.action for one in shown] == ["other.thing"]
    shown = client.get(address, {"actor": "command x"}).context["page_obj"].object_list
    assert [one.action for one in shown] == ["other.thing"]
    assert client.get(address, {"actor": "nobody"}).status_code == 200


def test_htmx_gets_the_entries_alone(entry, olivia, client_for):
    address = reverse("accounts:audit", args=["acme"])
    part = client_for(olivia).get(address, headers={"HX-Request": "true"})

    assert part.content.decode().lstrip().startswith('<section class="panel" id="audit-entries"')
    assert "HX-Request" in part["Vary"]
    whole = client_for(olivia).get(address, headers={"HX-Request": "true", "HX-History-Restore-Request": "true"})
    assert b"<!doctype html>" in whole.content


@pytest.mark.parametrize("count", [3, 60])
def test_log_takes_the_same_queries_at_any_length(acme, olivia, martin, client_for, count, django_assert_num_queries):
    for number in range(count):
        audit.record(f"thing.done{number % 7}", organisation=acme, actor=(olivia, martin)[number % 2])
    client = client_for(olivia)
    client.get(reverse("accounts:audit", args=["acme"]))  # remembers the organisation in the session

    # Session, user, membership; acts, people, count, entries; the switcher.
    with django_assert_num_queries(8):
        client.get(reverse("accounts:audit", args=["acme"]))
