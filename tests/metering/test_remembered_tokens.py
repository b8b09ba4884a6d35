"""A sender's token may be remembered for seconds, and is refused at once all the same when it is no longer live."""

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import api_auth
from accounts.models import ServiceToken
from metering.committing import SMALL_EVENTS
from metering.intake import accept, make_draft
from metering.models import Event, RejectedEvent
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)
BODIES = {
    "a new event": lambda key: event(key, "new"),
    "a known event": lambda key: event(key, "first"),
    "a batch": lambda key: [event(key, "new"), event(key, "other")],
    "a large batch": lambda key: [event(key, f"new-{number}") for number in range(SMALL_EVENTS + 1)],
    "a large batch with a known event": lambda key: [
        event(key, "first"),
        *(event(key, f"new-{number}") for number in range(SMALL_EVENTS)),
    ],
    "a large batch with a refused event": lambda key: [
        event("nobody", "new"),
        *(event(key, f"new-{number}") for number in range(SMALL_EVENTS + 1)),
    ],
    "an empty batch": lambda key: [],
    "an event that is refused": lambda key: event("nobody", "new"),
    "no event": lambda key: {"nothing": 1},
}


def event(subject: str, event_id: str) -> dict:
    data = {"model": "m-1", "input_tokens": 1}
    return {"specversion": "1.0", "id": event_id, "source": "s", "type": "ai.usage", "subject": subject, "data": data}


@pytest.fixture
def token():
    return factories.service_token("gateway")


@pytest.fixture
def send(token):
    headers = {"Authorization": f"Bearer {token.secret}"}

    def send(body):
        kind = "application/cloudevents-batch+json" if isinstance(body, list) else "application/cloudevents+json"
        return Client().post("/v1/events", json.dumps(body), content_type=kind, headers=headers)

    return send


@pytest.fixture
def key(acme_key) -> str:
    return acme_key.api_key.public_id


def test_a_busy_sender_is_looked_up_once(send, key):
    send(event(key, "first"))
    with CaptureQueriesContext(connection) as queries:
        assert send(event(key, "second")).json()["accepted"] == 1
    assert [query["sql"] for query in queries if "SELECT id, public_id" in query["sql"]] == []


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("end", ["revoked_at", "expires_at"])
def test_a_token_that_ended_is_refused_at_once(body, end, send, token, key):
    assert send(event(key, "first")).json()["accepted"] == 1
    ServiceToken.objects.update(**{end: timezone.now() - timedelta(microseconds=1)})

    answer = send(BODIES[body](key))

    assert (answer.status_code, answer.json()["code"]) == (
        401,
        "token_revoked" if end == "revoked_at" else "token_expired",
    )
    assert list(Event.objects.values_list("event_id", flat=True)) == ["first"]
    assert not RejectedEvent.objects.exists()


def test_a_large_batch_of_a_live_token_does_without_looking_it_up(token, key):
    def look_up() -> None:
        raise AssertionError("The statement that stores the batch looks itself.")

    common = {"source": "s", "type": "ai.usage", "subject": key, "time": None, "data": {"input_tokens": 1}}
    drafts = [make_draft(event_id=f"new-{number}", **common) for number in range(SMALL_EVENTS + 1)]
    options = {"format": "cloudevents", "service_token_id": token.token.pk, "now": timezone.now()}
    assert {one.verdict for one in accept(drafts, confirm=look_up, **options)} == {"accepted"}


def test_a_known_event_is_still_a_duplicate(send, key):
    answers = [send(event(key, "first")).json() for _ in range(3)]
    assert [(answer["accepted"], answer["duplicates"]) for answer in answers] == [(1, 0), (0, 1), (0, 1)]


def test_what_is_remembered_is_bounded_and_soon_asked_again(send, token, key, monkeypatch):
    send(event(key, "first"))
    (looked_up_at, caller) = api_auth._remembered[token.token.digest]
    assert caller.token == token.token
    monkeypatch.setattr(api_auth, "REMEMBERED_TOKENS", 1)
    monkeypatch.setattr(api_auth, "REMEMBERED_SECONDS", 0.0)
    send(event(key, "second"))
    assert len(api_auth._remembered) == 1
    assert api_auth._remembered[token.token.digest][0] > looked_up_at
