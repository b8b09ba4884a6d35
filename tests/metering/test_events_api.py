import gzip
import io
import json
from datetime import UTC, datetime

import pytest
from django.core.handlers.wsgi import WSGIRequest
from django.db import OperationalError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Scope
from accounts.tokens import revoke_token
from metering.api import bodies
from metering.models import Event, IngestBatch, RejectedEvent
from tests import factories

pytestmark = pytest.mark.django_db
ADDRESS = "/v1/events"
BATCH = "application/cloudevents-batch+json"
NDJSON = "application/x-ndjson"


@pytest.fixture
def event(acme_key):
    def make(event_id="1", **data):
        now = datetime.now(UTC).isoformat()
        subject = acme_key.api_key.public_id
        envelope = {"specversion": "1.0", "id": event_id, "source": "gateway", "type": "ai.usage", "subject": subject}
        return envelope | {"time": now, "data": {"model": "m-1"} | data}

    return make


@pytest.fixture
def send(api, service_token):
    def post(body, content_type="application/json", **headers):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        return api(service_token.secret).post(ADDRESS, body, content_type=content_type, headers=headers)

    return post


def as_lines(*events):
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def test_one_event_is_answered_with_its_verdict(send, event, service_token):
    response = send(event("1", output_tokens=5), "application/cloudevents+json; charset=utf-8")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.json() == {
        "accepted": 1,
        "duplicates": 0,
        "conflicts": 0,
        "rejected": 0,
        "truncated": False,
        "events": [
            {
                "source": "gateway",
                "id": "1",
                "verdict": "accepted",
                "meters": ["output_tokens", "requests"],
                "reason": None,
                "detail": None,
                "time_assumed": False,
            }
        ],
    }
    batch = IngestBatch.objects.get()
    assert (batch.format, batch.service_token_id) == ("cloudevents", service_token.token.pk)


@pytest.mark.parametrize("content_type", [BATCH, "application/json", NDJSON, "application/ndjson; charset=utf-8"])
def test_several_events_are_taken_as_batch_and_as_lines(send, event, content_type):
    events = [event(str(number), output_tokens=number) for number in range(5)]
    body = as_lines(*events) if "ndjson" in content_type else json.dumps(events).encode()
    assert send(body, content_type).json()["accepted"] == 5
    assert send(body, content_type).json()["duplicates"] == 5
    assert Event.objects.count() == 5


def test_a_mixed_batch_is_answered_200_with_a_verdict_each(send, event):
    send([event("0", output_tokens=1)])
    events = [event("1"), event("2", output_tokens=-1), {"id": "3"}, event("1"), event("0", output_tokens=2)]
    response = send(events)
    assert response.status_code == 200
    reply = response.json()
    assert [verdict["verdict"] for verdict in reply["events"]] == [
        "accepted",
        "rejected",
        "rejected",
        "conflict" if events[0]["time"] != events[3]["time"] else "duplicate",
        "conflict",
    ]
    assert RejectedEvent.objects.count() == reply["conflicts"] + reply["rejected"]
    assert all(verdict["detail"] for verdict in reply["events"] if verdict["verdict"] in {"rejected", "conflict"})


def test_lines_that_are_broken_are_kept_and_do_not_stop_the_stream(send, event):
    reply = send(b"{broken\n" + as_lines(event("1")) + b"\n\n" + b"x" * 100_000 + b"\n" + as_lines(event("2")), NDJSON)
    verdicts = [(verdict["verdict"], verdict["reason"]) for verdict in reply.json()["events"]]
    assert verdicts == [
        ("rejected", "invalid_event"),
        ("accepted", None),
        ("rejected", "too_large"),
        ("accepted", None),
    ]


@pytest.mark.parametrize("content_type", [BATCH, NDJSON])
def test_a_gzip_body_is_taken(send, event, content_type):
    events = [event(str(number)) for number in range(10)]
    body = as_lines(*events) if content_type == NDJSON else json.dumps(events).encode()
    assert send(gzip.compress(body), content_type, content_encoding="gzip").json()["accepted"] == 10


def test_gzip_in_several_members_is_one_body(send, event):
    body = gzip.compress(as_lines(event("1"))) + gzip.compress(as_lines(event("2")))
    assert send(body, NDJSON, content_encoding="gzip").json()["accepted"] == 2


def test_a_long_stream_is_committed_in_steps_and_the_list_is_cut(send, event, monkeypatch):
    from metering.api import taking as view

    monkeypatch.setattr(view, "COMMIT_EVENTS", 10)
    monkeypatch.setattr(view, "LISTED_EVENTS", 20)
    events = [event(str(number)) for number in range(45)] + [event("bad", output_tokens=-1)]
    reply = send(as_lines(*events), NDJSON).json()
    assert (reply["accepted"], reply["rejected"], reply["truncated"]) == (45, 1, True)
    assert [verdict["id"] for verdict in reply["events"]] == [*map(str, range(20)), "bad"]
    assert list(IngestBatch.objects.order_by("pk").values_list("event_count", flat=True)) == [10, 10, 10, 10, 5]


def test_a_stream_that_breaks_off_says_what_was_kept(send, event, monkeypatch):
    from metering.api import taking as view

    monkeypatch.setattr(view, "COMMIT_EVENTS", 10)
    body = gzip.compress(as_lines(*[event(str(number)) for number in range(25)]))
    response = send(body[:-8], NDJSON, content_encoding="gzip")
    assert (response.status_code, response.json()["code"]) == (400, "incomplete_body")
    assert response.json()["accepted"] == Event.objects.count()
    assert send(body, NDJSON, content_encoding="gzip").json()["rejected"] == 0
    assert Event.objects.count() == 25


def test_an_event_may_come_in_headers(send, event):
    members = event("1") | {"data": None}
    headers = {f"ce-{name}": value for name, value in members.items() if value is not None}
    reply = send(b'{"model": "m-1", "output_tokens": 5}', "application/json", **headers).json()
    assert (reply["accepted"], reply["events"][0]["meters"]) == (1, ["output_tokens", "requests"])


# --- What cannot be kept ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b" ", b"hello", b"[{}", b"\xff\xfe\x00"])
def test_a_body_that_is_not_json_is_400(send, body):
    response = send(body)
    assert (response.status_code, response.json()["code"]) == (400, "malformed_json")
    assert response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_another_media_type_is_415_with_advice(send, content_type):
    response = send(b"{}", content_type)
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")
    assert "application/x-ndjson" in response.json()["detail"]


def test_another_encoding_is_415(send):
    assert send(b"{}", content_encoding="br").status_code == 415


def test_broken_gzip_is_400(send):
    assert send(b"not gzip", NDJSON, content_encoding="gzip").json()["code"] == "malformed_gzip"


def test_a_gzip_bomb_is_stopped(send):
    bomb = gzip.compress(bytes(80 * 1024 * 1024))
    for content_type in (NDJSON, BATCH):
        assert send(bomb, content_type, content_encoding="gzip").status_code == 413


def test_a_large_json_body_is_413_and_the_same_as_lines_is_fine(send, event, settings):
    settings.JSON_BODY_MAX_BYTES = 1000
    events = [event(str(number)) for number in range(10)]
    response = send(events)
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    assert "ndjson" in response.json()["detail"]
    assert send(as_lines(*events), NDJSON).json()["accepted"] == 10


def test_a_body_shorter_than_announced_is_400():
    environ = {"REQUEST_METHOD": "POST", "wsgi.input": io.BytesIO(b"abc"), "CONTENT_LENGTH": "10"}
    with pytest.raises(bodies.Problem) as raised:
        list(bodies.read_chunks(WSGIRequest(environ)))
    assert raised.value.code == "incomplete_body"


def test_a_chunked_body_is_read_to_its_end():
    environ = {"REQUEST_METHOD": "POST", "wsgi.input": io.BytesIO(b"abc"), "HTTP_TRANSFER_ENCODING": "chunked"}
    assert b"".join(bodies.read_chunks(WSGIRequest(environ))) == b"abc"


def test_a_database_that_is_away_is_503_with_what_was_kept(send, event, monkeypatch):
    from metering.api import taking as view

    def away(*args, **options):
        raise OperationalError("the connection is closed")

    monkeypatch.setattr(view, "accept", away)
    response = send(event("1"))
    assert (response.status_code, response.json()["code"], response.json()["accepted"]) == (503, "unavailable", 0)
    assert response.headers["Retry-After"] == "5"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    body=st.binary(min_size=1),
    content_type=st.sampled_from([BATCH, NDJSON]),
    encoding=st.sampled_from(["identity", "gzip"]),
)
def test_no_body_is_answered_with_an_internal_error(send, body, content_type, encoding):
    assert send(body, content_type, content_encoding=encoding).status_code in {200, 400, 413}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.dictionaries(st.text(st.characters()) | st.just("output_tokens"), JSON), name=st.text(st.characters()))
def test_no_event_is_answered_with_an_internal_error(send, event, data, name):
    for members in ({"data": data}, {"id": name}, {"subject": name}, {"type": name}, {"source": name}, {"time": name}):
        response = send([event("same") | members, event("other")])
        assert response.status_code == 200
        assert response.json()["events"][1]["verdict"] in {"accepted", "duplicate", "conflict"}


# --- Who may send -----------------------------------------------------------------------------------------------------


def test_without_a_token_nothing_is_taken(api, event):
    assert api("").post(ADDRESS, [event("1")]).status_code == 401


def test_a_revoked_token_is_refused_at_once(send, event, service_token):
    assert send([event("1")]).status_code == 200
    revoke_token(service_token.token, actor="test")
    assert send([event("2")]).status_code == 401


def test_the_scope_is_needed(api, event):
    other = factories.service_token("Reader", [Scope.USAGE_READ])
    assert api(other.secret).post(ADDRESS, [event("1")]).status_code == 403


def test_an_access_token_and_an_api_key_send_nothing(api, event, acme_access_token, acme_key):
    assert api(acme_access_token.secret).post(ADDRESS, [event("1")]).status_code == 403
    assert api(acme_key.secret).post(ADDRESS, [event("1")]).status_code == 401
    assert Event.objects.count() == 0


def test_the_openapi_document_describes_it():
    from drf_spectacular.generators import SchemaGenerator

    operation = SchemaGenerator().get_schema(request=None, public=True)["paths"]["/v1/events"]["post"]
    assert set(operation["requestBody"]["content"]) >= {BATCH, NDJSON, "application/cloudevents+json"}
    assert operation["requestBody"]["content"][BATCH]["examples"]
    assert operation["responses"]["200"]["content"]["application/json"]["schema"]["properties"]["events"]
