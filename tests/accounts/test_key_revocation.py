"""Revoking many keys at once: which ones, that it is asked first, audited and does nothing twice."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.urls import reverse
from django.utils import timezone

from accounts import key_revocation
from accounts.models import ApiKey, AuditEntry
from tests import factories

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def keys(acme) -> list[ApiKey]:
    return [factories.api_key(acme, f"Key {number}").api_key for number in range(3)]


@pytest.fixture
def acme_api(api, acme_access_token):
    return api(acme_access_token.secret)


def live() -> set[str]:
    return set(ApiKey.objects.filter(revoked_at=None).values_list("name", flat=True))


def test_each_key_is_revoked_once_with_the_reason(acme, keys, olivia):
    for _ in range(2):
        rows = key_revocation.keys_by_id(acme, [key.public_id for key in keys[:2]])
        key_revocation.revoke_api_keys(rows, actor=olivia, now=NOON, reason=" Found  in a log ")
    assert live() == {"Key 2"}
    entries = AuditEntry.objects.filter(action="api_key.revoked")
    assert {entry.subject_id for entry in entries} == {key.public_id for key in keys[:2]}
    assert [entry.details for entry in entries] == [{"reason": "Found in a log"}] * 2


def test_more_than_fit_are_left_for_the_next_time(acme, keys, olivia, monkeypatch):
    monkeypatch.setattr(key_revocation, "MOST_AT_ONCE", 2)
    rows = key_revocation.keys_of(acme, project=factories.default_project(acme))
    first = key_revocation.revoke_api_keys(rows, actor=olivia, now=NOON)
    second = key_revocation.revoke_api_keys(rows, actor=olivia, now=NOON)
    assert [len(first.revoked), first.is_more, len(second.revoked), second.is_more] == [2, True, 1, False]


def test_nothing_chosen_revokes_nothing(acme, keys):
    with pytest.raises(key_revocation.NothingChosen):
        key_revocation.keys_by_id(acme, [])
    with pytest.raises(key_revocation.NothingChosen):
        key_revocation.keys_of(acme)


# --- The API ----------------------------------------------------------------------------------------------------------


def test_api_revokes_by_id_and_says_what_came_of_each(acme_api, globex, keys):
    theirs = factories.api_key(globex, "Theirs").api_key
    ids = [keys[0].public_id, keys[1].public_id, theirs.public_id, "key_unheardof"]
    first = acme_api.post("/v1/api-keys/revocation", {"ids": ids, "reason": "Spring cleaning"})
    again = acme_api.post("/v1/api-keys/revocation", {"ids": ids})
    assert first.status_code == again.status_code == 200
    assert set(first.json()["revoked"]) == set(ids[:2])
    assert first.json()["unknown"] == ids[2:]
    assert again.json()["revoked"] == []
    assert set(again.json()["revoked_before"]) == set(ids[:2])
    assert live() == {"Key 2", "Theirs"}
    assert AuditEntry.objects.filter(action="api_key.revoked").count() == 2


def test_api_revokes_a_project_and_what_nobody_used(acme_api, acme, keys):
    chat = factories.project(acme, "Chat")
    old = factories.api_key(acme, "Old chat", project=chat).api_key
    factories.api_key(acme, "New chat", project=chat)
    ApiKey.objects.filter(pk__in=[old.pk, keys[0].pk]).update(created_at=NOON - timedelta(days=400))
    since = (timezone.now() - timedelta(days=90)).isoformat()
    acme_api.post("/v1/api-keys/revocation", {"project": chat.public_id, "unused_since": since})
    assert live() == {"Key 0", "Key 1", "Key 2", "New chat"}
    acme_api.post("/v1/api-keys/revocation", {"unused_since": since})
    assert live() == {"Key 1", "Key 2", "New chat"}
    acme_api.post("/v1/api-keys/revocation", {"project": chat.public_id})
    assert live() == {"Key 1", "Key 2"}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "nothing_chosen"),
        ({"ids": []}, 400, "invalid_request"),
        ({"ids": ["key_x"], "project": "proj_x"}, 400, "invalid_request"),
        ({"project": "proj_x"}, 422, "unknown_project"),
        ({"ids": ["key_x"] * 201}, 400, "invalid_request"),
    ],
)
def test_api_refuses_what_names_no_keys(acme_api, keys, body, status, code):
    response = acme_api.post("/v1/api-keys/revocation", body)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert len(live()) == 3


# --- The portal -------------------------------------------------------------------------------------------------------


def test_chosen_keys_are_named_before_they_end(client_for, martin, acme, keys, acme_revoked_key):
    martins = client_for(martin)
    address = reverse("accounts:keys_revocation", args=["acme"])
    listed = martins.get(reverse("accounts:keys", args=["acme"])).content.decode()
    assert f'form="key-choice" name="key" value="{keys[0].public_id}"' in listed
    chosen = {"key": [keys[0].public_id, keys[2].public_id, acme_revoked_key.api_key.public_id]}
    asked = martins.get(address, chosen).content.decode()
    assert "Revoke these 2 keys?" in asked
    assert "Key 0" in asked
    assert "Key 1" not in asked
    assert len(live()) == 3
    done = martins.post(address, {**chosen, "reason": "Laptop stolen"}, follow=True)
    assert "2 keys were revoked" in done.content.decode()
    assert live() == {"Key 1"}
    assert AuditEntry.objects.filter(details={"reason": "Laptop stolen"}).count() == 2
    assert "had been revoked before" in martins.post(address, chosen, follow=True).content.decode()


def test_choosing_nothing_leads_back_to_the_list(client_for, martin, keys):
    response = client_for(martin).get(reverse("accounts:keys_revocation", args=["acme"]), follow=True)
    assert "Nothing was revoked" in response.content.decode()


def test_another_organisations_keys_cannot_be_chosen(client_for, gus, globex, keys):
    guss = client_for(gus)
    address = reverse("accounts:keys_revocation", args=["globex"])
    assert b"Key 0" not in guss.get(address, {"key": keys[0].public_id}).content
    guss.post(address, {"key": [key.public_id for key in keys]})
    assert len(live()) == 3


def test_viewer_is_offered_no_choice(client_for, vera, keys):
    assert b'name="key"' not in client_for(vera).get(reverse("accounts:keys", args=["acme"])).content


# --- The admin --------------------------------------------------------------------------------------------------------


def test_operator_gives_a_reason(client_for, operator, keys):
    admin = client_for(operator)
    address = reverse("admin:accounts_apikey_changelist")
    chosen = {"action": "revoke_selected", ACTION_CHECKBOX_NAME: [keys[0].pk, keys[1].pk]}
    assert b"Reason" in admin.post(address, chosen).content
    assert b"Give a reason." in admin.post(address, {**chosen, "confirmed": "yes", "reason": " "}).content
    assert len(live()) == 3
    admin.post(address, {**chosen, "confirmed": "yes", "reason": "Abuse"})
    assert live() == {"Key 2"}
    entries = AuditEntry.objects.filter(action="api_key.revoked")
    assert {(entry.actor, entry.details["reason"]) for entry in entries} == {(operator, "Abuse")}
