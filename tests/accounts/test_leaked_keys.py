"""Reports of leaked keys: the secret ends at once, its owners are told, and nothing else is revealed."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts import api_keys, notices
from accounts.api_keys import find_presented_key
from accounts.credentials import digest_of
from accounts.leaked_keys import web_address
from accounts.models import ApiKey, AuditEntry, Notice
from tests import factories

ADDRESS = "/v1/leaked-keys"
WHERE = "https://github.com/acme/app/blob/main/.env"


@pytest.fixture
def one_minute():
    """Attempts are counted by the minute: none begins in the middle of a test."""
    with time_machine.travel(datetime(2026, 11, 20, 12, 0, 30, tzinfo=UTC), tick=False):
        yield


@pytest.fixture
def anybody(api):
    return api("")


def status(secret: str) -> str:
    return find_presented_key(digest_of(secret)).status(timezone.now())


def send() -> list[mail.EmailMessage]:
    notices.send_due(now=timezone.now())
    return mail.outbox


def test_each_token_is_labelled_and_ours_end_at_once(anybody, acme_key, acme_access_token, api):
    sent = [
        {"token": acme_key.secret, "type": "kilotoken_api_key", "url": WHERE, "source": "content"},
        {"token": "sk-kt-unheard-of", "type": "kilotoken_api_key", "url": WHERE},
        {"token": acme_access_token.secret, "type": "kilotoken_access_token"},
    ]
    response = anybody.post(ADDRESS, sent)
    assert response.status_code == 200
    assert response.json() == [
        {"token_hash": acme_key.digest, "token_type": "kilotoken_api_key", "label": "true_positive"},
        {"token_hash": digest_of("sk-kt-unheard-of"), "token_type": "kilotoken_api_key", "label": "false_positive"},
        {
            "token_hash": digest_of(acme_access_token.secret),
            "token_type": "kilotoken_access_token",
            "label": "true_positive",
        },
    ]
    assert status(acme_key.secret) == "revoked"
    assert api(acme_access_token.secret).get("/v1/api-keys").json()["code"] == "token_revoked"
    entry = AuditEntry.objects.get(action="api_key.leaked")
    assert entry.details == {"revoked": "the key", "found at": WHERE}
    assert acme_key.secret not in str(entry.details)


@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: {"tokens": [one]}, lambda one: [one]])
def test_one_object_or_a_list_is_taken(anybody, acme_key, wrap):
    assert anybody.post(ADDRESS, wrap({"token": acme_key.secret})).json()[0]["label"] == "true_positive"


def test_whoever_knows_less_than_the_whole_key_ends_nothing(anybody, acme_key):
    key = acme_key.api_key
    less = [acme_key.digest, key.public_id, acme_key.secret[:-1], acme_key.secret + "x", str(key.newest_secret)]
    answers = anybody.post(ADDRESS, [{"token": one} for one in less]).json()
    assert {answer["label"] for answer in answers} == {"false_positive"}
    assert status(acme_key.secret) == "active"


def test_answer_is_the_same_for_live_and_ended_keys_and_nothing_happens_twice(anybody, acme_key, acme_revoked_key):
    first = anybody.post(ADDRESS, {"token": acme_key.secret}).json()
    again = anybody.post(ADDRESS, {"token": acme_key.secret}).json()
    ended = anybody.post(ADDRESS, {"token": acme_revoked_key.secret}).json()
    assert first == again
    assert ended[0]["label"] == "true_positive"
    assert AuditEntry.objects.filter(action="api_key.leaked").count() == 1


def test_leaked_secret_of_before_a_rotation_leaves_the_new_one(anybody, acme_key, olivia):
    new = api_keys.rotate_api_key(acme_key.api_key, overlap=timedelta(days=1), actor=olivia)
    anybody.post(ADDRESS, {"token": acme_key.secret})
    assert status(acme_key.secret) == "expired"
    assert status(new.secret) == "active"
    assert ApiKey.objects.get().revoked_at is None
    anybody.post(ADDRESS, {"token": new.secret})
    assert status(new.secret) == "revoked"


def test_owners_admins_and_the_maker_are_told_even_if_they_want_no_notices(anybody, acme, martin, vera, olivia):
    olivia.wants_key_notices = False
    olivia.save()
    project = factories.default_project(acme)
    _, credential = api_keys.create_api_key(acme, project=project, name="Martin's", actor=martin)
    Notice.objects.all().delete()
    anybody.post(ADDRESS, {"token": credential.secret, "url": WHERE})
    messages = send()
    assert {message.to[0] for message in messages} == {olivia.email, martin.email}
    for message in messages:
        whole = message.subject + message.body + str(message.alternatives)
        assert "leaked" in message.subject
        assert "Martin's" in message.body
        assert WHERE in message.body
        assert credential.secret not in whole


def test_operators_are_told_of_a_leaked_service_token(anybody, api, service_token, operator, olivia):
    anybody.post(ADDRESS, {"token": service_token.secret})
    assert api(service_token.secret).get("/v1/api-keys").status_code == 401
    assert [message.to for message in send()] == [[operator.email]]
    assert "A gateway" in mail.outbox[0].body


@pytest.mark.parametrize("body", [[], {}, {"tokens": []}, [{"token": ""}], [{"token": "x" * 256}], ["sk-kt-x"]])
def test_what_is_no_report_is_refused(anybody, db, body):
    assert anybody.post(ADDRESS, body).status_code == 400


def test_too_many_at_once_are_refused(anybody, db):
    response = anybody.post(ADDRESS, [{"token": "x"}] * 501)
    assert response.json()["code"] == "too_many_tokens"


def test_same_look_ups_are_made_for_any_token(anybody, acme_key, acme_revoked_key):
    costs = set()
    for secret in ("sk-kt-x", "kt-access-x", "anything", "kt-service-x"):
        with CaptureQueriesContext(connection) as queries:
            anybody.post(ADDRESS, {"token": secret})
        costs.add(len(queries))
    assert len(costs) == 1


def test_reports_from_one_place_are_limited(anybody, db, one_minute):
    answers = [anybody.post(ADDRESS, {"token": "x"}) for _ in range(61)]
    assert [answer.status_code for answer in answers[:60]] == [200] * 60
    assert answers[60].status_code == 429
    assert answers[60].json()["code"] == "too_many_requests"
    assert 1 <= int(answers[60]["Retry-After"]) <= 60
    assert anybody.post(ADDRESS, {"token": "x"}, REMOTE_ADDR="203.0.113.9").status_code == 200


@pytest.mark.parametrize("url", ["javascript:alert(1)", "ftp://x", "nonsense", "https://", "http://[", "https://a b"])
def test_only_plain_web_addresses_are_kept(url):
    assert web_address(url) == ""


# --- The page ---------------------------------------------------------------------------------------------------------


def test_page_takes_keys_one_per_line_and_repeats_none(client, acme_key):
    address = reverse("accounts:leaked_key")
    assert client.get(address).status_code == 200
    response = client.post(address, {"secrets": f"sk-kt-nothing\r\n{acme_key.secret}", "url": WHERE})
    html = response.content.decode()
    assert "1 of 2 were ours" in html
    assert "Line 2: one of ours, revoked" in html
    assert acme_key.secret not in html
    assert status(acme_key.secret) == "revoked"
    assert "not a key of ours" in client.post(address, {"secrets": "sk-kt-nothing"}).content.decode()


def test_page_is_safe_from_other_sites(acme_key):
    strict = Client(enforce_csrf_checks=True)
    assert strict.post(reverse("accounts:leaked_key"), {"secrets": acme_key.secret}).status_code == 403
    assert status(acme_key.secret) == "active"


def test_page_is_limited_too(client, db, one_minute):
    address = reverse("accounts:leaked_key")
    answers = [client.post(address, {"secrets": "x"}).status_code for _ in range(61)]
    assert answers[-1] == 429


def test_public_pages_lead_there(client, db):
    assert reverse("accounts:leaked_key") in client.get("/").content.decode()
