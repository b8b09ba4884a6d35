"""Operators look into a portal: only for a reason, only to read, and the organisation can see it."""

from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import Permission
from django.db import InternalError, OperationalError, ProgrammingError
from django.urls import reverse
from django.utils import timezone

from accounts import looking_in
from accounts.models import AuditEntry, Project
from tests import factories

KEYS = "/o/acme/keys/"


@pytest.fixture
def operators(client_for, operator):
    return client_for(operator)


def ask(organisation, wanted: str = KEYS) -> str:
    return reverse("admin:accounts_organisation_look_in", args=[organisation.pk]) + f"?next={wanted}"


def look_in(client, organisation, wanted: str = KEYS):
    return client.post(ask(organisation, wanted), {"confirmed": "yes", "reason": "Ticket 12"})


def entries() -> list[str]:
    return list(
        AuditEntry.objects.filter(action__startswith="organisation.look")
        .order_by("pk")
        .values_list("action", flat=True)
    )


def test_page_opens_once_the_operator_has_said_why(operators, operator, acme, acme_key):
    first = operators.get(KEYS)
    assert first.status_code == 302
    page = operators.get(first["Location"])
    assert b"What for" in page.content
    assert b"Give a reason." in operators.post(first["Location"], {"confirmed": "yes"}).content
    assert entries() == []
    begun = operators.post(first["Location"], {"confirmed": "yes", "reason": "Ticket 12"})
    assert begun["Location"] == KEYS
    html = operators.get(KEYS).content.decode()
    assert "You look in as an operator." in html
    assert "Production" in html
    assert "New key" not in html
    assert entries() == ["organisation.look_begun", "organisation.looked_at"]
    entry = AuditEntry.objects.get(action="organisation.look_begun")
    assert (entry.organisation, entry.actor, entry.details) == (acme, operator, {"reason": "Ticket 12"})


def test_every_page_is_noted_once(operators, acme, olivia, client_for):
    look_in(operators, acme)
    for address in (KEYS, "/o/acme/usage/", KEYS, "/o/acme/usage/?group=model"):
        assert operators.get(address).status_code == 200
    seen = AuditEntry.objects.filter(action="organisation.looked_at").order_by("pk")
    assert [entry.details["page"] for entry in seen] == [KEYS, "/o/acme/usage/"]
    assert "organisation.looked_at" in client_for(olivia).get("/o/acme/audit/").content.decode()


def test_nothing_can_be_changed_and_no_form_opens(operators, acme, acme_key):
    look_in(operators, acme)
    assert operators.post("/o/acme/projects/new/", {"name": "Mine"}).status_code == 403
    assert operators.get("/o/acme/keys/new/").status_code == 403
    assert operators.put(KEYS).status_code == 403
    assert Project.objects.count() == 1


def test_database_refuses_changes_during_a_look(acme):
    with pytest.raises((InternalError, OperationalError, ProgrammingError)), looking_in.reading_only():
        factories.project(acme, "Mine")
    assert factories.project(acme, "Afterwards").pk


def test_look_is_into_one_organisation_and_ends(operators, acme, globex):
    look_in(operators, acme)
    assert operators.get("/o/globex/keys/").status_code == 302
    ended = operators.post(reverse("accounts:look_end"))
    assert ended["Location"] == reverse("admin:accounts_organisation_change", args=[acme.pk])
    assert operators.get(KEYS).status_code == 302
    assert entries() == ["organisation.look_begun", "organisation.look_ended"]
    look_in(operators, acme)
    with time_machine.travel(timezone.now() + looking_in.LENGTH + timedelta(seconds=1)):
        assert operators.get(KEYS).status_code == 302


def test_only_operators_who_may_look_in_do(client_for, acme, gus, operator):
    clerk = factories.user("clerk@kilotoken.example")
    clerk.is_staff = True
    clerk.save()
    for user in (gus, clerk):
        client = client_for(user)
        assert client.get(KEYS).status_code == 404
        assert client.post(KEYS).status_code == 404
        assert look_in(client, acme).status_code in {302, 403}
        assert client.get(KEYS).status_code == 404
    clerk.user_permissions.add(Permission.objects.get(codename="look_into_organisation"))
    assert client_for(clerk).get(KEYS).status_code == 302
    assert client_for(operator).get("/o/nothing/keys/").status_code == 404


def test_leads_nowhere_else(operators, acme):
    for wanted in ("https://elsewhere.example/", "//elsewhere.example/", "/o/globex/keys/"):
        assert look_in(operators, acme, wanted)["Location"] == "/o/acme/"


def test_too_many_pages_ask_again(operators, acme, monkeypatch):
    monkeypatch.setattr(looking_in, "MOST_PAGES", 1)
    look_in(operators, acme)
    assert operators.get(KEYS).status_code == 200
    assert operators.get("/o/acme/usage/").status_code == 302


def test_member_who_is_an_operator_too_is_a_member(client_for, olivia, acme):
    olivia.is_staff = olivia.is_superuser = True
    olivia.save()
    assert b"New key" in client_for(olivia).get(KEYS).content
    assert entries() == []
