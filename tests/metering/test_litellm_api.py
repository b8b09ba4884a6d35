import gzip
import json
import time

import pytest

from metering.models import Event, IngestBatch, RejectedEvent

pytestmark = pytest.mark.django_db
ADDRESS = "/v1/litellm"


@pytest.fixture
def record(acme_key):
    def make(call_id="call-1", **changes):
        metadata = {"user_api_key_hash": acme_key.digest, "usage_object": {"prompt_tokens_details": {}}}
        members = {
            "litellm_call_id": call_id,
            "status": "success",
            "model": "gpt-5-mini",
            "endTime": time.time(),
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "response_cost": 2.25e-05,
            "messages": [{"role": "user", "content": "a secret prompt"}],
            "metadata": metadata,
        }
        return members | changes

    return make


@pytest.fixture
def send(api, service_token):
    def post(body, **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        return api(service_token.secret).post(ADDRESS, body, headers=headers)

    return post


def test_records_of_a_key_become_its_events(send, record, acme_key, acme, service_token):
    reply = send([record("1"), record("2")]).json()
    assert reply["accepted"] == 2
    assert reply["events"][0]["meters"] == ["input_tokens", "output_tokens", "requests"]
    stored = Event.objects.get(event_id="1")
    assert (stored.organisation_id, stored.api_key_id) == (acme.pk, acme_key.api_key.pk)
    batch = IngestBatch.objects.get()
    assert (batch.format, batch.service_token_id) == ("litellm", service_token.token.pk)


def test_overlapping_batches_count_once(send, record):
    one, two, three = record("1"), record("2"), record("3")
    assert send([one, two]).json()["accepted"] == 2
    reply = send(b"\n".join(json.dumps(each).encode() for each in (two, three))).json()
    assert (reply["accepted"], reply["duplicates"]) == (1, 1)


@pytest.mark.parametrize("body", [b"hello", b"[1, 2", b"\xff\xfe", b"null", b'{"messages": "a secret prompt"}'])
def test_whatever_arrives_is_kept_and_answered_with_200(send, body):
    response = send(body)
    assert response.status_code == 200
    assert response.json()["rejected"] >= 1
    assert RejectedEvent.objects.count() >= 1
    assert not RejectedEvent.objects.filter(body__contains="secret").exists()


def test_one_bad_record_costs_no_other(send, record):
    reply = send([record("1"), record("2", prompt_tokens=-1), record("3", metadata={}), record("4")]).json()
    assert (reply["accepted"], reply["rejected"]) == (2, 2)
    assert {verdict["reason"] for verdict in reply["events"]} == {None, "invalid_value", "unknown_subject"}


def test_no_prompt_reaches_the_database(send, record):
    send([record("1"), record("2", endTime="never"), record("3", metadata={"user_api_key_hash": "sk-kt-a-secret"})])
    assert "secret" not in str(list(Event.objects.values())) + str(list(RejectedEvent.objects.values()))


def test_gzip_is_read(send, record):
    assert send(gzip.compress(json.dumps(record()).encode()), content_encoding="gzip").json()["accepted"] == 1


def test_only_a_service_token_may_send(api, acme_access_token, record):
    assert api("").post(ADDRESS, record()).status_code == 401
    assert api(acme_access_token.secret).post(ADDRESS, record()).status_code == 403
    assert not Event.objects.exists()
